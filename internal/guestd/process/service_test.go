package process_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"bulkhead/internal/guestd/account"
	"bulkhead/internal/guestd/process"
	pb "bulkhead/proto/process"
	"bulkhead/proto/process/processconnect"
)

// TestMain makes the test binary what the agent's is: the stand-in of programs
// that cannot be executed. At the end nothing that it started may still run.
func TestMain(m *testing.M) {
	process.StandIn()
	serveWiped()
	// Orphans come back to this process, so that none can hide.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := reap(); err != nil {
		fmt.Fprintln(os.Stderr, "tests left processes behind:", err)
		code = 1
	}
	os.Exit(code)
}

// reap collects what has ended and returns an error if anything has not.
func reap() error {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.ECHILD) {
			return nil
		}
		if err != nil || pid == 0 {
			return fmt.Errorf("wait: pid %d, %v", pid, err)
		}
	}
}

// rig is a service behind a real HTTP server, with a user database of its own.
type rig struct {
	url  string
	home string // of user tester, uid and gid 65534
	processconnect.ProcessClient
}

func newRig(t *testing.T, change func(*process.Options), opts ...connect.ClientOption) *rig {
	t.Helper()
	etc, home := t.TempDir(), t.TempDir()
	for _, dir := range []string{home, filepath.Dir(home)} { // TempDir's parent is root's alone
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(etc, "passwd"), "root:x:0:0::/root:/bin/sh\ntester:x:65534:65534::"+home+":/bin/sh\n")
	write(t, filepath.Join(etc, "group"), "root:x:0:\nextra:x:4242:other,tester\n")
	o := process.Options{
		Users: account.Users{Dir: etc, Default: func() string { return "tester" }},
	}
	if change != nil {
		change(&o)
	}
	s := process.New(o)
	mux := http.NewServeMux()
	mux.Handle(s.Handler())
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		s.Close()
	})
	return &rig{srv.URL, home, processconnect.NewProcessClient(srv.Client(), srv.URL, opts...)}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// outcome is all that one stream told.
type outcome struct {
	pid               uint32
	stdout, stderr    string
	pty               string
	alive             int // signs of life
	end               *pb.ProcessEvent_EndEvent
	err               error
	startedBeforeRest bool
	text              [3]strings.Builder // behind stdout, stderr and pty
}

// eventStream is what Start and Connect return, once their messages are unwrapped.
type eventStream struct {
	next  func() bool
	event func() *pb.ProcessEvent
	err   func() error
	close func() error
}

func startStream(s *connect.ServerStreamForClient[pb.StartResponse]) eventStream {
	return eventStream{s.Receive, func() *pb.ProcessEvent { return s.Msg().GetEvent() }, s.Err, s.Close}
}

func connectStream(s *connect.ServerStreamForClient[pb.ConnectResponse]) eventStream {
	return eventStream{s.Receive, func() *pb.ProcessEvent { return s.Msg().GetEvent() }, s.Err, s.Close}
}

// collect reads a stream until until says so, or to its end.
func (s eventStream) collect(out *outcome, until func(*outcome) bool) {
	for s.next() {
		out.add(s.event())
		if until != nil && until(out) {
			return
		}
	}
	out.err = s.err()
}

func (o *outcome) add(ev *pb.ProcessEvent) {
	switch ev := ev.GetEvent().(type) {
	case *pb.ProcessEvent_Start:
		o.startedBeforeRest = o.pid == 0 && o.stdout+o.stderr+o.pty == "" && o.end == nil
		o.pid = ev.Start.GetPid()
	case *pb.ProcessEvent_Data:
		o.text[0].Write(ev.Data.GetStdout())
		o.text[1].Write(ev.Data.GetStderr())
		o.text[2].Write(ev.Data.GetPty())
		o.stdout, o.stderr, o.pty = o.text[0].String(), o.text[1].String(), o.text[2].String()
	case *pb.ProcessEvent_End:
		o.end = ev.End
	case *pb.ProcessEvent_Keepalive:
		o.alive++
	}
}

// start begins a program and reads its start event.
func (r *rig) start(t *testing.T, ctx context.Context, m *pb.StartRequest) (eventStream, *outcome) {
	t.Helper()
	s, err := r.Start(ctx, connect.NewRequest(m))
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	stream, out := startStream(s), &outcome{}
	stream.collect(out, func(o *outcome) bool { return o.pid != 0 })
	if out.err != nil || !out.startedBeforeRest {
		t.Fatalf("start: err %v, first event was start: %v", out.err, out.startedBeforeRest)
	}
	return stream, out
}

// run runs a program to its end.
func (r *rig) run(t *testing.T, m *pb.StartRequest) *outcome {
	t.Helper()
	stream, out := r.start(t, t.Context(), m)
	stream.collect(out, nil)
	return out
}

// attach connects to a process and reads the start event.
func (r *rig) attach(t *testing.T, sel *pb.ProcessSelector) (eventStream, *outcome) {
	t.Helper()
	s, err := r.Connect(t.Context(), connect.NewRequest(&pb.ConnectRequest{Process: sel}))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	stream, out := connectStream(s), &outcome{}
	stream.collect(out, func(o *outcome) bool { return o.pid != 0 })
	if out.err != nil {
		t.Fatalf("connect: %v", out.err)
	}
	return stream, out
}

func (r *rig) send(t *testing.T, pid uint32, text string) {
	t.Helper()
	if _, err := r.SendInput(t.Context(), input(pid, text)); err != nil {
		t.Fatalf("send input: %v", err)
	}
}

func input(pid uint32, text string) *connect.Request[pb.SendInputRequest] {
	return connect.NewRequest(&pb.SendInputRequest{
		Process: byPID(pid), Input: &pb.ProcessInput{Input: &pb.ProcessInput_Stdin{Stdin: []byte(text)}},
	})
}

func ptyInput(pid uint32, text string) *connect.Request[pb.SendInputRequest] {
	return connect.NewRequest(&pb.SendInputRequest{
		Process: byPID(pid), Input: &pb.ProcessInput{Input: &pb.ProcessInput_Pty{Pty: []byte(text)}},
	})
}

func byPID(pid uint32) *pb.ProcessSelector {
	return &pb.ProcessSelector{Selector: &pb.ProcessSelector_Pid{Pid: pid}}
}

func byTag(tag string) *pb.ProcessSelector {
	return &pb.ProcessSelector{Selector: &pb.ProcessSelector_Tag{Tag: tag}}
}

func sh(script string) *pb.StartRequest { return command("/bin/sh", "-c", script) }

func command(cmd string, args ...string) *pb.StartRequest {
	return &pb.StartRequest{Process: &pb.ProcessConfig{Cmd: cmd, Args: args}}
}

func ptr[T any](v T) *T { return &v }

func as[T any](user string, m *T) *connect.Request[T] {
	req := connect.NewRequest(m)
	req.Header().Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":")))
	return req
}

// soon is a context for calls that must end by themselves; it only keeps a
// broken test from hanging for ever.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func mustContain(t *testing.T, what, text, part string) {
	t.Helper()
	if !bytes.Contains([]byte(text), []byte(part)) {
		t.Errorf("%s is %q, want it to contain %q", what, text, part)
	}
}
