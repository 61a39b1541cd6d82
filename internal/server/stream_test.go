package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server"

	"github.com/google/go-cmp/cmp"
)

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// decodeLines reads newline-delimited JSON to its end.
func decodeLines[T any](t *testing.T, body string) []T {
	t.Helper()
	var all []T
	for line := range strings.Lines(body) {
		var v T
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		all = append(all, v)
	}
	return all
}

func TestBuildStreamsProgress(t *testing.T) {
	step := client.BuildEvent{Step: "install Debian packages", Number: 1, Of: 2}
	tests := map[string]struct {
		err  error
		last client.BuildEvent
	}{
		"and ends with the template": {nil, client.BuildEvent{Template: &client.Template{Name: "base"}}},
		"and ends with the error": {
			fault.New(fault.Unavailable, "mirror is away").Hint("try again"),
			client.BuildEvent{Error: &client.Error{Code: 503, Kind: "unavailable", Message: "mirror is away", Hint: "try again"}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			proceed := make(chan struct{})
			var f fake
			f.build = func(_ context.Context, r client.BuildRequest, progress func(client.BuildEvent)) (client.Template, error) {
				progress(step)
				<-proceed
				return client.Template{Name: r.Name}, tt.err
			}
			a := start(t, f)
			res, err := a.Post("http://host/templates", "application/json", strings.NewReader(`{"name":"base"}`))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			if got, want := res.Header.Get("Content-Type"), "application/x-ndjson"; got != want || res.StatusCode != 200 {
				t.Errorf("answer = %d %s, want 200 %s", res.StatusCode, got, want)
			}
			lines := bufio.NewReader(res.Body)
			first, err := lines.ReadString('\n') // comes while the build goes on
			if err != nil {
				t.Fatal(err)
			}
			close(proceed)
			rest, err := io.ReadAll(lines)
			if err != nil {
				t.Fatal(err)
			}
			if tt.last.Error != nil {
				tt.last.Error.RequestID = res.Header.Get("X-Request-Id")
			}
			got := decodeLines[client.BuildEvent](t, first+string(rest))
			if diff := cmp.Diff([]client.BuildEvent{step, tt.last}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBuildHeadersComeBeforeAnyProgress(t *testing.T) {
	proceed := make(chan struct{})
	var f fake
	f.build = func(context.Context, client.BuildRequest, func(client.BuildEvent)) (client.Template, error) {
		<-proceed
		return client.Template{}, nil
	}
	a := start(t, f)
	res, err := a.Post("http://host/templates", "", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	close(proceed)
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Error(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
}

func TestBuildIsCancelledWhenItsClientLeaves(t *testing.T) {
	cancelled := make(chan error, 1)
	building := make(chan struct{})
	var f fake
	f.build = func(ctx context.Context, _ client.BuildRequest, _ func(client.BuildEvent)) (client.Template, error) {
		close(building)
		<-ctx.Done()
		cancelled <- ctx.Err()
		return client.Template{}, ctx.Err()
	}
	a := start(t, f)
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "POST", "http://host/templates", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	res, err := a.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	<-building
	leave()
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Errorf("build ended with %v, want %v", err, context.Canceled)
	}
	_ = res.Body.Close()
}

func TestEvents(t *testing.T) {
	const goneID = "i01234567890123456789"
	resolve := func(_ context.Context, ref string) (string, error) {
		if ref == "web" {
			return "i1", nil
		}
		return "", fault.New(fault.NotFound, "sandbox %q not found", ref)
	}
	tests := map[string]struct {
		query  string
		want   server.EventQuery
		status int
	}{
		"everything by default":       {"", server.EventQuery{}, 200},
		"since a number":              {"?since=7&follow=0", server.EventQuery{Since: 7}, 200},
		"of a sandbox by name":        {"?sandbox=web", server.EventQuery{SandboxID: "i1"}, 200},
		"of a removed sandbox by id":  {"?sandbox=" + goneID, server.EventQuery{SandboxID: goneID}, 200},
		"of a removed sandbox's name": {"?sandbox=old", server.EventQuery{}, 404},
		"followed":                    {"?follow=true", server.EventQuery{Follow: true}, 200},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got server.EventQuery
			want := []client.Event{{Seq: 8, Type: "sandbox.created", Fields: map[string]string{"a": "b"}}, {Seq: 9}}
			var f fake
			f.resolve = resolve
			f.events = func(_ context.Context, q server.EventQuery) iter.Seq2[client.Event, error] {
				got = q
				return func(yield func(client.Event, error) bool) {
					_ = yield(want[0], nil) && yield(want[1], nil)
				}
			}
			a := start(t, f)
			status, body, _ := do(t, a, "GET", "/events"+tt.query, "")
			if status != tt.status {
				t.Fatalf("status = %d, want %d", status, tt.status)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if status != 200 {
				return
			}
			if diff := cmp.Diff(want, decodeLines[client.Event](t, body)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEventsThatBreakOffAreCut(t *testing.T) {
	var f fake
	f.events = func(context.Context, server.EventQuery) iter.Seq2[client.Event, error] {
		return func(yield func(client.Event, error) bool) {
			_ = yield(client.Event{Seq: 1}, nil) && yield(client.Event{}, errBoom)
		}
	}
	a := start(t, f)
	res := get(t, a, "/events")
	if _, err := io.ReadAll(res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading to the end = %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if want := `level=ERROR msg="request failed"`; !strings.Contains(a.log.String(), want) {
		t.Errorf("log = %s\nwant %s", a.log, want)
	}
}

// withConsole is a daemon with one sandbox whose console is in dir, for as
// long as exists says so.
func withConsole(dir string, exists func() bool) fake {
	var f fake
	f.fakeSandboxes.console = func(context.Context, string) (string, error) { return dir, nil }
	f.get = func(context.Context, string) (client.Sandbox, error) {
		if !exists() {
			return client.Sandbox{}, fault.New(fault.NotFound, "sandbox not found")
		}
		return client.Sandbox{}, nil
	}
	return f
}

func always() bool { return true }

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func appendFile(t *testing.T, path, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestConsoleTail(t *testing.T) {
	tests := map[string]struct{ older, newer, query, want string }{
		"nothing yet":             {"", "", "", ""},
		"all of it":               {"abc", "def", "", "abcdef"},
		"a part of the newer":     {"abc", "def", "?tail=2", "ef"},
		"exactly the newer":       {"abc", "def", "?tail=3", "def"},
		"a part of the older too": {"abc", "def", "?tail=4", "cdef"},
		"more than there is":      {"abc", "def", "?tail=9223372036854775807", "abcdef"},
		"none":                    {"abc", "def", "?tail=0", ""},
		"only the older":          {"abc", "", "?tail=2", "bc"},
		"raw bytes":               {"", "\x00\xff\x1b[2J", "", "\x00\xff\x1b[2J"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.older != "" {
				writeFile(t, filepath.Join(dir, "console.log.1"), tt.older)
			}
			if tt.newer != "" {
				writeFile(t, filepath.Join(dir, "console.log"), tt.newer)
			}
			a := start(t, withConsole(dir, always))
			status, body, header := do(t, a, "GET", "/sandboxes/i1/console"+tt.query, "")
			if status != 200 || body != tt.want {
				t.Errorf("answer = %d %q, want 200 %q", status, body, tt.want)
			}
			if got, want := header.Get("Content-Type"), "application/octet-stream"; got != want {
				t.Errorf("content type = %s, want %s", got, want)
			}
		})
	}
}

// expect reads exactly want.
func expect(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("console = %q, %v; want %q", got, err, want)
	}
}

func TestConsoleFollowsGrowthRotationAndRestart(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "console.log")
	removed := make(chan struct{})
	a := start(t, withConsole(dir, func() bool {
		select {
		case <-removed:
			return false
		default:
			return true
		}
	}))
	body := get(t, a, "/sandboxes/i1/console?follow=1&tail=2").Body // no file yet
	writeFile(t, log, "boot\n")
	expect(t, body, "boot\n")
	appendFile(t, log, "login: ")
	expect(t, body, "login: ")

	// Rotation: what is written just before the rename is not lost.
	appendFile(t, log, "last words")
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	appendFile(t, log, "first words")
	expect(t, body, "last wordsfirst words")

	// A new VMM begins the file anew.
	if err := os.Truncate(log, 0); err != nil {
		t.Fatal(err)
	}
	appendFile(t, log, "again")
	expect(t, body, "again")

	close(removed)
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
		t.Errorf("after removal = %q, %v; want the end", rest, err)
	}
}

func TestConsoleOfHostileVMM(t *testing.T) {
	tests := map[string]func(path string) error{
		"a link to a secret": func(path string) error { return os.Symlink("/etc/passwd", path) },
		"a pipe":             func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a folder":           func(path string) error { return os.Mkdir(path, 0o700) },
	}
	for name, plant := range tests {
		for _, file := range []string{"console.log", "console.log.1"} {
			t.Run(name+" as "+file, func(t *testing.T) {
				dir := t.TempDir()
				if err := plant(filepath.Join(dir, file)); err != nil {
					t.Fatal(err)
				}
				a := start(t, withConsole(dir, always))
				status, body, _ := do(t, a, "GET", "/sandboxes/i1/console?follow=1", "")
				if status != 500 || !strings.Contains(body, "open console") {
					t.Errorf("answer = %d %s, want 500", status, body)
				}
			})
		}
	}
}

func TestConsoleOfUnknownSandbox(t *testing.T) {
	f := fake{}
	f.fakeSandboxes.console = func(context.Context, string) (string, error) {
		return "", fault.New(fault.NotFound, "sandbox not found")
	}
	if status, body, _ := do(t, start(t, f), "GET", "/sandboxes/i1/console", ""); status != 404 {
		t.Errorf("answer = %d %s, want 404", status, body)
	}
}

func TestDiff(t *testing.T) {
	change := client.FileChange{Kind: "added", Path: "/srv/f", SizeAfter: 3}
	for name, tt := range map[string]struct {
		path   string
		found  []client.FileChange
		err    error
		status int
		want   string
	}{
		"some":          {path: "?from=monday&to=tuesday", found: []client.FileChange{change}, status: 200, want: `"path":"/srv/f"`},
		"none":          {path: "?from=monday", status: 200},
		"no snapshot":   {path: "?from=monday", err: fault.New(fault.NotFound, "no such snapshot"), status: 404, want: "no such snapshot"},
		"no reference":  {path: "?from=../x", status: 400, want: "not the id or name"},
		"no references": {path: "?from=a&to=%00", status: 400, want: "not the id or name"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := ""
			var f fake
			f.diff = func(ref, from, to string) iter.Seq2[client.FileChange, error] {
				asked = ref + " " + from + " " + to
				return func(yield func(client.FileChange, error) bool) {
					for _, c := range tt.found {
						if !yield(c, nil) {
							return
						}
					}
					if tt.err != nil {
						yield(client.FileChange{}, tt.err)
					}
				}
			}
			status, body, _ := do(t, start(t, f), "GET", "/sandboxes/otter/diff"+tt.path, "")
			if status != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("%d, %s", status, body)
			}
			if name == "some" && asked != "otter monday tuesday" {
				t.Errorf("asked is %q", asked)
			}
		})
	}
}

func TestEventsAreServerSentForBrowsers(t *testing.T) {
	var asked server.EventQuery
	var f fake
	f.events = func(_ context.Context, q server.EventQuery) iter.Seq2[client.Event, error] {
		asked = q
		return func(yield func(client.Event, error) bool) {
			_ = yield(client.Event{Seq: 8, Type: "sandbox.created"}, nil) && yield(client.Event{Seq: 9, Type: "sandbox.started"}, nil)
		}
	}
	status, body, header := do(t, start(t, f), "GET", "/events", "", "Accept", "text/event-stream", "Last-Event-ID", "7")
	if got := header.Get("Content-Type"); status != 200 || got != "text/event-stream" || asked.Since != 7 {
		t.Errorf("%d %s since %d", status, got, asked.Since)
	}
	const want = "id: 8\nevent: sandbox.created\ndata: {\"seq\":8,\"time\":\"0001-01-01T00:00:00Z\",\"type\":\"sandbox.created\"}\n\nid: 9\n"
	if !strings.HasPrefix(body, want) {
		t.Errorf("body is %q, want it to begin with %q", body, want)
	}
}
