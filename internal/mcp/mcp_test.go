package mcp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/mcp"
	"bulkhead/test/leak"

	"github.com/google/go-cmp/cmp"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// api is a host with the sandbox otter, and badger if there are two.
type api struct {
	mcp.API
	two bool
	run func(ctx context.Context, e client.Exec) (client.Exit, error)

	mu    sync.Mutex
	asked []string
	files map[string][]byte
}

const otterID = "iabcdefghij0123456789"

func otter() client.Sandbox {
	return client.Sandbox{ID: otterID, Name: "otter", State: client.StateRunning, TemplateID: "base", CPUs: 1, MemoryMB: 512}
}

func (a *api) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, fmt.Sprintf(format, args...))
}

func (a *api) Sandboxes(context.Context) ([]client.Sandbox, error) {
	all := []client.Sandbox{otter()}
	if a.two {
		all = append(all, client.Sandbox{ID: "ibadger", Name: "badger"})
	}
	return all, nil
}

func (a *api) Sandbox(_ context.Context, ref string) (client.Sandbox, error) {
	if ref != "otter" && ref != otterID {
		return client.Sandbox{}, &client.Error{Kind: "not_found", Message: "sandbox not found", Hint: "bulkhead ls"}
	}
	return otter(), nil
}

func (a *api) Create(_ context.Context, req client.CreateRequest) (client.Sandbox, error) {
	a.note("create %s %s", req.TemplateID, req.Name)
	return otter(), nil
}

func (a *api) Fork(_ context.Context, ref string, req client.ForkRequest) ([]client.Sandbox, error) {
	a.note("fork %s %d", ref, req.Count)
	return []client.Sandbox{otter()}, nil
}

func (a *api) Remove(_ context.Context, ref string) error {
	a.note("remove %s", ref)
	return nil
}

func (a *api) Run(ctx context.Context, e client.Exec) (client.Exit, error) {
	a.note("run %s %s", e.Sandbox, e.Args[1])
	return a.run(ctx, e)
}

func (a *api) ReadFile(_ context.Context, ref, path string, from, most int64) (client.FilePart, error) {
	b, ok := a.files[path]
	if !ok {
		return client.FilePart{}, &client.Error{Kind: "not_found", Message: "in the sandbox: no such file"}
	}
	size := int64(len(b))
	from = min(from, size)
	return client.FilePart{Data: b[from:min(size, from+most)], Size: size}, nil
}

func (a *api) WriteFile(_ context.Context, ref, path string, data []byte) error {
	a.files[path] = data
	return nil
}

func (a *api) ListFolder(context.Context, string, string, int) ([]client.Entry, error) {
	all := make([]client.Entry, 600)
	for i := range all {
		all[i] = client.Entry{Path: fmt.Sprintf("/x/%d", i), Type: "file", Mode: 0o644}
	}
	return all, nil
}

func (a *api) Snapshot(_ context.Context, ref string, req client.SnapshotRequest) (client.Snapshot, error) {
	a.note("snapshot %s %s", ref, req.Name)
	return client.Snapshot{ID: "s1", Name: req.Name, Cause: "manual"}, nil
}

func (a *api) Rollback(_ context.Context, ref string, req client.RollbackRequest) (client.RollbackResult, error) {
	a.note("rollback %s %s", ref, req.Snapshot)
	return client.RollbackResult{Sandbox: otter(), Snapshot: client.Snapshot{ID: "s1"}, Kept: "s2"}, nil
}

func (a *api) Timeline(context.Context, string) (client.Timeline, error) {
	return client.Timeline{SandboxID: otterID, Head: "s1", Snapshots: []client.Snapshot{{ID: "s1"}}}, nil
}

func (a *api) Egress(context.Context, string) (client.Egress, error) {
	return client.Egress{SandboxID: otterID, Policy: "version: 1\n", Denied: []client.EgressDenial{{Destination: "evil.example:443"}}}, nil
}

func (a *api) AskEgress(_ context.Context, _, destination string) (client.EgressVerdict, error) {
	return client.EgressVerdict{Destination: destination, Rule: "the operator did not answer"}, nil
}

func (a *api) Events(_ context.Context, q client.EventQuery, each func(client.Event) error) error {
	for i := range 300 {
		e := client.Event{Seq: uint64(i), Type: "egress.denied", SandboxID: q.Sandbox, Fields: map[string]string{"reason": strings.Repeat("x", 100<<10)}}
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

// connect returns a client of a server with these options, and what it was told
// of progress.
func connect(t *testing.T, o mcp.Options) (*sdk.ClientSession, *told) {
	t.Helper()
	leak.Check(t)
	near, far := sdk.NewInMemoryTransports()
	server, err := mcp.New(o).Connect(t.Context(), far, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &told{first: make(chan bool)}
	c := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, &sdk.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *sdk.ProgressNotificationClientRequest) { p.note(r.Params.Message) },
	})
	session, err := c.Connect(t.Context(), near, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		session.Close()
		server.Wait()
	})
	return session, p
}

// told is progress.
type told struct {
	first chan bool // closed by the first
	mu    sync.Mutex
	all   []string
}

func (p *told) note(m string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all = append(p.all, m); len(p.all) == 1 {
		close(p.first)
	}
}

// call calls a tool that has to answer, and returns what it answers as JSON.
func call(t *testing.T, s *sdk.ClientSession, tool string, args map[string]any) map[string]any {
	t.Helper()
	r, err := s.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: args, Meta: sdk.Meta{"progressToken": "p"}})
	if err != nil {
		t.Fatal(err)
	}
	if r.IsError {
		t.Fatalf("%s %v: %s", tool, args, text(r))
	}
	out, ok := r.StructuredContent.(map[string]any)
	if !ok {
		t.Fatalf("%s answers %T", tool, r.StructuredContent)
	}
	return out
}

func text(r *sdk.CallToolResult) string {
	b, err := json.Marshal(r.Content)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Each tool asks the API for what it says, and its annotations say what it does.
func TestTools(t *testing.T) {
	a := &api{files: map[string][]byte{}, run: func(_ context.Context, e client.Exec) (client.Exit, error) {
		fmt.Fprint(e.Stdout, "out")
		fmt.Fprint(e.Stderr, "err")
		return client.Exit{Code: 3}, nil
	}}
	s, _ := connect(t, mcp.Options{API: a, Version: "1.2.3"})
	listed, err := s.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var all, reads []string
	for _, tool := range listed.Tools {
		all = append(all, tool.Name)
		if tool.Annotations.ReadOnlyHint {
			reads = append(reads, tool.Name)
		}
		if tool.OutputSchema == nil || tool.Description == "" {
			t.Errorf("%s: description %q, schema %v", tool.Name, tool.Description, tool.OutputSchema)
		}
	}
	wantReads := []string{"egress_policy", "events", "list_files", "list_sandboxes", "read_file", "timeline"}
	if diff := cmp.Diff(wantReads, reads); diff != "" {
		t.Errorf("tools that only read (-want +got):\n%s", diff)
	}
	answers := map[string]string{}
	for tool, args := range map[string]map[string]any{
		"create_sandbox": {"name": "new"}, "list_sandboxes": {}, "fork_sandbox": {"count": 99}, "remove_sandbox": {"sandbox": "otter"},
		"run_command": {"command": "x"}, "write_file": {"path": "/a", "content": "aGk=", "encoding": "base64"},
		"list_files": {"path": "/x"}, "snapshot": {"name": "monday"}, "rollback": {"snapshot": "monday"}, "timeline": {},
		"egress_policy": {}, "ask_egress": {"destination": "api.example:443"}, "events": {"limit": 2},
	} {
		b, err := json.Marshal(call(t, s, tool, args))
		if err != nil {
			t.Fatal(err)
		}
		answers[tool] = string(b)
	}
	answers["read_file"] = fmt.Sprint(call(t, s, "read_file", map[string]any{"path": "/a"}))
	for _, tool := range all {
		if answers[tool] == "" {
			t.Errorf("%s was not called", tool)
		}
	}
	for tool, want := range map[string]string{
		"run_command": `"exit_code":3`, "read_file": "content:hi", "list_files": `"left_out":100`, "rollback": `"kept":"s2"`,
		"events": `"left_out":298`, "ask_egress": `"allowed":false`, "egress_policy": "evil.example", "timeline": `"head":"s1"`,
	} {
		if !strings.Contains(answers[tool], want) {
			t.Errorf("%s answers %.300s, want %s", tool, answers[tool], want)
		}
	}
	slices.Sort(a.asked)
	want := []string{
		"create base new", "fork " + otterID + " 10", "remove otter", "rollback " + otterID + " monday",
		"run " + otterID + " x", "snapshot " + otterID + " monday",
	}
	if diff := cmp.Diff(want, a.asked); diff != "" {
		t.Errorf("the API was asked (-want +got):\n%s", diff)
	}
}

// An agent that is given one machine has no other, and no way to make one.
func TestOnly(t *testing.T) {
	a := &api{two: true, run: func(context.Context, client.Exec) (client.Exit, error) { return client.Exit{}, nil }}
	s, _ := connect(t, mcp.Options{API: a, Only: otterID})
	listed, err := s.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range listed.Tools {
		if slices.Contains([]string{"create_sandbox", "fork_sandbox", "remove_sandbox"}, tool.Name) {
			t.Errorf("%s is offered", tool.Name)
		}
	}
	if got := fmt.Sprint(call(t, s, "list_sandboxes", nil)); strings.Contains(got, "badger") || !strings.Contains(got, "otter") {
		t.Errorf("it sees %s", got)
	}
	for _, ref := range []string{"", "otter", otterID} {
		call(t, s, "run_command", map[string]any{"sandbox": ref, "command": "x"})
	}
	r, err := s.CallTool(t.Context(), &sdk.CallToolParams{Name: "run_command", Arguments: map[string]any{"sandbox": "badger", "command": "x"}})
	if err != nil || !r.IsError || !strings.Contains(text(r), "not found") {
		t.Errorf("got %v, %v", r, err)
	}
}

// What cannot be done is told with the way out.
func TestErrors(t *testing.T) {
	s, _ := connect(t, mcp.Options{API: &api{two: true}})
	for name, c := range map[string]struct {
		tool string
		args map[string]any
		want string
	}{
		"no sandbox named":   {"timeline", nil, "there are 2 sandboxes"},
		"no such file":       {"read_file", map[string]any{"sandbox": "otter", "path": "/none"}, "no such file"},
		"no base64":          {"write_file", map[string]any{"sandbox": "otter", "path": "/a", "content": "!", "encoding": "base64"}, "not base64"},
		"no encoding":        {"write_file", map[string]any{"sandbox": "otter", "path": "/a", "content": "", "encoding": "x"}, "neither"},
		"a negative offset":  {"read_file", map[string]any{"sandbox": "otter", "path": "/a", "offset": -1}, "not below 0"},
		"too long a timeout": {"run_command", map[string]any{"sandbox": "otter", "command": "x", "timeout_seconds": 9999}, "1 to 3600"},
		"no time":            {"events", map[string]any{"sandbox": "otter", "after": "yesterday"}, "no time"},
		"nothing to run":     {"run_command", map[string]any{"sandbox": "otter"}, "command"},
	} {
		r, err := s.CallTool(t.Context(), &sdk.CallToolParams{Name: c.tool, Arguments: c.args})
		if err == nil && !r.IsError {
			t.Errorf("%s: no error", name)
			continue
		}
		got := fmt.Sprint(err)
		if err == nil {
			got = text(r)
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: got %s, want %q", name, got, c.want)
		}
	}
}

// Output is told while it comes and cut in the middle, files in pieces.
func TestBounds(t *testing.T) {
	var p *told
	a := &api{files: map[string][]byte{"/long": []byte(strings.Repeat("x", 300<<10)), "/binary": {0, 1, 0xff}}}
	a.run = func(_ context.Context, e client.Exec) (client.Exit, error) {
		fmt.Fprint(e.Stdout, "begin")
		<-p.first
		for range 100 {
			fmt.Fprint(e.Stdout, strings.Repeat("y", 32<<10))
		}
		fmt.Fprint(e.Stdout, "\xffend")
		return client.Exit{}, nil
	}
	var s *sdk.ClientSession
	s, p = connect(t, mcp.Options{API: a})
	ran := call(t, s, "run_command", map[string]any{"command": "x"})
	out, cut := ran["stdout"].(string), ran["stdout_left_out"].(float64)
	if !strings.HasPrefix(out, "beginy") || !strings.HasSuffix(out, "\uFFFDend") || len(out) > 40<<10 || cut < 3<<20 || !strings.Contains(out, fmt.Sprintf("%.0f bytes left out", cut)) {
		t.Errorf("%d bytes of output, %.0f left out", len(out), cut)
	}
	if p.all[0] != "begin" {
		t.Errorf("first told %q", p.all[0])
	}
	piece := call(t, s, "read_file", map[string]any{"path": "/long", "limit": 1 << 30})
	if got := len(piece["content"].(string)); got != 256<<10 || piece["next_offset"].(float64) != 256<<10 {
		t.Errorf("%d bytes of a file, next %v", got, piece["next_offset"])
	}
	rest := call(t, s, "read_file", map[string]any{"path": "/long", "offset": 256 << 10})
	if got := len(rest["content"].(string)); got != 44<<10 || rest["next_offset"] != nil {
		t.Errorf("%d bytes of the rest, next %v", got, rest["next_offset"])
	}
	if got := call(t, s, "read_file", map[string]any{"path": "/binary"}); got["encoding"] != "base64" || got["content"] != "AAH/" {
		t.Errorf("got %v", got)
	}
	events := call(t, s, "events", nil)["events"].([]any)
	reason := events[0].(map[string]any)["fields"].(map[string]any)["reason"].(string)
	if len(events) != 50 || len(reason) > 33<<10 {
		t.Errorf("%d events, one field has %d bytes", len(events), len(reason))
	}
}

// A command whose time is over, or whose client has gone, is asked to end.
func TestTimeout(t *testing.T) {
	got := make(chan int, 2)
	began := make(chan bool, 1)
	a := &api{run: func(_ context.Context, e client.Exec) (client.Exit, error) {
		began <- true
		sig := <-e.Signals
		got <- sig
		return client.Exit{Code: 128 + sig, Signal: sig}, nil
	}}
	s, _ := connect(t, mcp.Options{API: a})
	ran := call(t, s, "run_command", map[string]any{"command": "sleep 9", "timeout_seconds": 1})
	if sig := <-got; sig != 15 || ran["timed_out"] != true || ran["exit_code"].(float64) != 143 {
		t.Errorf("signal %d, %v", sig, ran)
	}
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := s.CallTool(ctx, &sdk.CallToolParams{Name: "run_command", Arguments: map[string]any{"command": "sleep 9"}})
		ended <- err
	}()
	<-began
	cancel()
	if err := <-ended; err == nil {
		t.Error("a call that was given up has an answer")
	}
	if sig := <-got; sig != 15 {
		t.Errorf("signal %d", sig)
	}
}

// Over HTTP each request is of who sends it; what goes on ends with it.
func TestHandler(t *testing.T) {
	leak.Check(t)
	a := &api{run: func(_ context.Context, e client.Exec) (client.Exit, error) {
		fmt.Fprint(e.Stdout, "hello")
		return client.Exit{}, nil
	}}
	var over sync.WaitGroup
	h := mcp.Handler(func(r *http.Request) (mcp.Options, func()) {
		over.Add(1)
		return mcp.Options{API: a, Only: r.Header.Get("X-Only")}, over.Done
	})
	srv := httptest.NewServer(h)
	defer srv.Close()
	for only, want := range map[string]int{"": 14, otterID: 11} {
		c := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil)
		s, err := c.Connect(t.Context(), &sdk.StreamableClientTransport{
			Endpoint: srv.URL, DisableStandaloneSSE: true, HTTPClient: &http.Client{Transport: as(only), Timeout: time.Minute},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		listed, err := s.ListTools(t.Context(), nil)
		if err != nil || len(listed.Tools) != want {
			t.Errorf("only %q: %d tools, want %d, %v", only, len(listed.Tools), want, err)
		}
		if got := call(t, s, "run_command", map[string]any{"command": "x"}); got["stdout"] != "hello" {
			t.Errorf("got %v", got)
		}
		s.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	over.Wait()
}

// as sends requests of somebody.
type as string

func (a as) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Only", string(a))
	tr := &http.Transport{DisableKeepAlives: true}
	return tr.RoundTrip(r)
}
