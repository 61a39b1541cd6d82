package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server"
	"bulkhead/test/leak"
)

// run runs a program in otter and returns all that came of it.
func run(t *testing.T, c *client.Client, e client.Exec) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	e.Sandbox, e.Stdout, e.Stderr = "otter", &out, &errs
	code, err := c.Exec(t.Context(), e)
	if err != nil {
		t.Fatalf("exec %s %q: %v", e.Cmd, e.Args, err)
	}
	return code, out.String(), errs.String()
}

func sh(script string) client.Exec {
	return client.Exec{Cmd: "sh", Args: []string{"-c", script}}
}

func TestExecReturnsWhatAShellWould(t *testing.T) {
	leak.Check(t)
	c := realGuest(t)
	script := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	in := sh("pwd; id -un; echo $GREETING")
	in.Dir, in.Env, in.User = "/", map[string]string{"GREETING": "hello"}, "tester"
	for _, tt := range []struct {
		name        string
		exec        client.Exec
		code        int
		out, errors string
	}{
		{"both outputs, apart", sh("echo out; echo err >&2"), 0, "out\n", "err\n"},
		{"the exit code", sh("exit 42"), 42, "", ""},
		{"the largest exit code", sh("exit 255"), 255, "", ""},
		{"a kill", sh("kill -9 $$"), 137, "", ""},
		{"an end by request", sh("kill -15 $$"), 143, "", ""},
		{"an abort with or without a core", sh("ulimit -c 0; kill -6 $$"), 134, "", ""},
		{"a real-time signal", sh("kill -40 $$"), 168, "", ""},
		{"no such program", client.Exec{Cmd: "no-such-program"}, 127, "", "bulkhead: no-such-program: not found\n"},
		{"no program", client.Exec{Cmd: script}, 126, "", "bulkhead: " + script + ": permission denied\n"},
		{"no input", client.Exec{Cmd: "cat"}, 0, "", ""},
		{"directory, user and variables", in, 0, "/\nnobody\nhello\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errs := run(t, c, tt.exec)
			if code != tt.code || out != tt.out {
				t.Errorf("code %d, output %q, want %d, %q", code, out, tt.code, tt.out)
			}
			if errs != tt.errors {
				t.Errorf("errors %q, want %q", errs, tt.errors)
			}
		})
	}
}

func TestExecDropsWhatNobodyWants(t *testing.T) {
	leak.Check(t)
	e := sh("echo out; echo err >&2; exit 3")
	e.Sandbox = "otter"
	code, err := realGuest(t).Exec(t.Context(), e)
	if code != 3 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
}

func TestExecStreamsInput(t *testing.T) {
	leak.Check(t)
	c := realGuest(t)
	big := strings.Repeat("all the bytes\n", 100_000)
	t.Run("to its end", func(t *testing.T) {
		if code, out, _ := run(t, c, client.Exec{Cmd: "cat", Stdin: strings.NewReader(big)}); code != 0 || out != big {
			t.Errorf("code %d, %d bytes of %d came back", code, len(out), len(big))
		}
	})
	t.Run("until the program has enough", func(t *testing.T) {
		if code, out, _ := run(t, c, client.Exec{Cmd: "head", Args: []string{"-c3"}, Stdin: endless{}}); code != 0 || out != "yyy" {
			t.Errorf("code %d, %q", code, out)
		}
	})
	t.Run("and does not wait for more", func(t *testing.T) {
		r, w := io.Pipe()
		defer w.Close()
		if code, _, _ := run(t, c, client.Exec{Cmd: "true", Stdin: r}); code != 0 {
			t.Errorf("code %d", code)
		}
		r.Close()
	})
}

// endless says yes.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'y'
	}
	return len(b), nil
}

// await passes output on until it has seen a text, and then closes seen.
type await struct {
	text string
	seen chan struct{}
	all  bytes.Buffer
}

func (a *await) Write(b []byte) (int, error) {
	before := strings.Contains(a.all.String(), a.text)
	a.all.Write(b)
	if !before && strings.Contains(a.all.String(), a.text) {
		close(a.seen)
	}
	return len(b), nil
}

func TestExecOnATerminal(t *testing.T) {
	leak.Check(t)
	c := realGuest(t)
	out := &await{text: "ready", seen: make(chan struct{})}
	sizes, keys := make(chan client.Size), make(chan string)
	r, w := io.Pipe()
	go func() {
		<-out.seen
		sizes <- client.Size{Cols: 111, Rows: 22}
		w.Write([]byte(<-keys))
	}()
	e := sh(`stty size
trap 'stty size; got=1' WINCH
test -t 0 && test -t 2 && echo ready
while test -z "$got"; do sleep 0.05; done
echo resized >&2
read line; echo "read $line"; exit 5`)
	go func() { keys <- "typed\n" }()
	e.Sandbox, e.Terminal, e.Resize, e.Stdin, e.Stdout = "otter", &client.Size{Cols: 90, Rows: 30}, sizes, r, out
	code, err := c.Exec(t.Context(), e)
	r.Close()
	if code != 5 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	for _, want := range []string{"30 90", "22 111", "resized", "read typed"} {
		if !strings.Contains(out.all.String(), want) {
			t.Errorf("%q is not in %q", want, out.all.String())
		}
	}
}

func TestExecPassesSignalsOn(t *testing.T) {
	leak.Check(t)
	c := realGuest(t)
	for _, tt := range []struct {
		name   string
		signal int
		code   int
	}{{"a request to end", 15, 7}, {"a kill", 9, 137}} {
		t.Run(tt.name, func(t *testing.T) {
			out := &await{text: "ready", seen: make(chan struct{})}
			signals := make(chan int)
			go func() {
				<-out.seen
				signals <- tt.signal
			}()
			e := sh("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
			e.Sandbox, e.Signals, e.Stdout = "otter", signals, out
			if code, err := c.Exec(t.Context(), e); code != tt.code || err != nil {
				t.Errorf("code %d, %v", code, err)
			}
		})
	}
}

// A guest that does not even start the program must not hold its user.
func TestSignalBeforeTheStartEndsTheCall(t *testing.T) {
	leak.Check(t)
	signals := make(chan int, 1)
	c := serve(t, inGuest(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		signals <- 15
		io.Copy(io.Discard, r.Body) // else the end of the connection goes unseen
		<-r.Context().Done()
	})))
	_, err := c.Exec(t.Context(), client.Exec{Sandbox: "otter", Cmd: "true", Signals: signals})
	if err == nil || err.Error() != "interrupted before the program ran" {
		t.Errorf("error %v", err)
	}
}

// full takes nothing.
type full struct{}

var errFull = errors.New("full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestProgramWithoutAListenerIsAskedToEnd(t *testing.T) {
	leak.Check(t)
	c := realGuest(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if code, _, errs := run(t, c, client.Exec{Cmd: "mkfifo", Args: []string{fifo}}); code != 0 {
		t.Fatal(errs)
	}
	e := sh("trap 'echo asked >" + fifo + "; exit' TERM; while :; do echo more; sleep 0.05; done")
	e.Sandbox, e.Stdout = "otter", full{}
	if _, err := c.Exec(t.Context(), e); !errors.Is(err, errFull) {
		t.Errorf("error %v", err)
	}
	if _, out, _ := run(t, c, client.Exec{Cmd: "cat", Args: []string{fifo}}); out != "asked\n" {
		t.Errorf("program heard %q", out)
	}
}

func TestProgramOutlivesTheCall(t *testing.T) {
	leak.Check(t)
	c := realGuest(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if code, _, errs := run(t, c, client.Exec{Cmd: "mkfifo", Args: []string{fifo}}); code != 0 {
		t.Fatal(errs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := &await{text: "ready", seen: make(chan struct{})}
	go func() {
		<-out.seen
		cancel()
	}()
	e := sh("echo ready; read x <" + fifo + "; echo $x >" + fifo)
	e.Sandbox, e.Stdout = "otter", out
	if _, err := c.Exec(ctx, e); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, got, _ := run(t, c, sh("echo hi >"+fifo+"; cat "+fifo)); got != "hi\n" {
		t.Errorf("program answers %q", got)
	}
}

func TestExecThatCannotBegin(t *testing.T) {
	leak.Check(t)
	parts := server.Options{Sandboxes: sandboxes{transport: func(ref string) (http.RoundTripper, error) {
		if ref == "held" {
			return nil, fault.New(fault.WrongState, "sandbox held is held").Hint("bulkhead rm SOMETHING")
		}
		return nil, notFound(ref)
	}}}
	daemon, guest := serve(t, parts), realGuest(t)
	for _, tt := range []struct {
		name          string
		c             *client.Client
		exec          client.Exec
		kind, message string
		hint          string
	}{
		{"no such sandbox", daemon, client.Exec{Sandbox: "nobody", Cmd: "true"}, "not_found", `sandbox "nobody" not found`, "bulkhead ls"},
		{"sandbox that stands still", daemon, client.Exec{Sandbox: "held", Cmd: "true"}, "wrong_state", "sandbox held is held", "bulkhead rm SOMETHING"},
		{"reference that is none", daemon, client.Exec{Sandbox: "a/b", Cmd: "true"}, "invalid", `"a/b" is not the id or name of a sandbox`, "ids and names are 1 to 63 of a-z, 0-9 and -"},
		{"unknown user", guest, client.Exec{Sandbox: "otter", Cmd: "true", User: "nobody-here"}, "denied", "in the sandbox: invalid username: 'nobody-here'", ""},
		{"no directory", guest, client.Exec{Sandbox: "otter", Cmd: "true", Dir: "/nowhere"}, "invalid", "in the sandbox: cwd '/nowhere' does not exist", ""},
		{"no program", guest, client.Exec{Sandbox: "otter"}, "invalid", "in the sandbox: no program given", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.c.Exec(t.Context(), tt.exec)
			var e *client.Error
			if !errors.As(err, &e) {
				t.Fatalf("%#v", err)
			}
			if e.Kind != tt.kind || e.Message != tt.message || e.Hint != tt.hint {
				t.Errorf("%q %q hint %q, want %q %q hint %q", e.Kind, e.Message, e.Hint, tt.kind, tt.message, tt.hint)
			}
		})
	}
}
