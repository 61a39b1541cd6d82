package process_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"bulkhead/internal/guestd/process"
	pb "bulkhead/proto/process"
)

func TestConnect(t *testing.T) {
	r := newRig(t, nil)
	t.Run("every listener hears what comes from now on", func(t *testing.T) {
		first, a := r.start(t, soon(t), sh("echo early; read x; echo got $x"))
		first.collect(a, func(o *outcome) bool { return o.stdout != "" })
		second, b := r.attach(t, byPID(a.pid))
		if got, want := b.pid, a.pid; got != want {
			t.Errorf("pid is %d, want %d", got, want)
		}
		done := make(chan struct{})
		go func() { second.collect(b, nil); close(done) }()
		r.send(t, a.pid, "it\n")
		first.collect(a, nil)
		<-done
		if got, want := a.stdout, "early\ngot it\n"; got != want {
			t.Errorf("first heard %q, want %q", got, want)
		}
		if got, want := b.stdout, "got it\n"; got != want {
			t.Errorf("second heard %q, want %q", got, want)
		}
		if a.end.GetStatus() != "exit status 0" || b.end.GetStatus() != "exit status 0" {
			t.Errorf("ends are %v and %v", a.end, b.end)
		}
	})
	t.Run("an end is remembered for a late client", func(t *testing.T) {
		m := sh("exit 7")
		m.Tag = ptr("late")
		out := r.run(t, m)
		for _, sel := range []*pb.ProcessSelector{byPID(out.pid), byTag("late")} {
			stream, late := r.attach(t, sel)
			stream.collect(late, nil)
			if late.pid != out.pid || late.end.GetExitCode() != 7 || late.err != nil {
				t.Errorf("late client got %+v", late)
			}
		}
	})
	t.Run("a tag means its newest running process", func(t *testing.T) {
		m := command("sleep", "1000")
		m.Tag = ptr("twice")
		_, old := r.start(t, soon(t), m)
		_, young := r.start(t, soon(t), m)
		stream, seen := r.attach(t, byTag("twice"))
		if seen.pid != young.pid {
			t.Errorf("got %d, want %d", seen.pid, young.pid)
		}
		kill(t, r, young.pid)
		stream.collect(seen, nil)
		_, seen = r.attach(t, byTag("twice"))
		if seen.pid != old.pid {
			t.Errorf("after the end of the newest got %d, want %d", seen.pid, old.pid)
		}
	})
	t.Run("an end is forgotten after its time", func(t *testing.T) {
		r := newRig(t, func(o *process.Options) { o.Retain = time.Nanosecond })
		out := r.run(t, command("true"))
		s, err := r.Connect(t.Context(), connect.NewRequest(&pb.ConnectRequest{Process: byPID(out.pid)}))
		if err == nil {
			s.Receive()
			err = s.Err()
		}
		if got, want := connect.CodeOf(err), connect.CodeNotFound; got != want {
			t.Errorf("got %v, want %v", err, want)
		}
	})
}

func kill(t *testing.T, r *rig, pid uint32) {
	t.Helper()
	req := &pb.SendSignalRequest{Process: byPID(pid), Signal: pb.Signal_SIGNAL_SIGKILL}
	if _, err := r.SendSignal(t.Context(), connect.NewRequest(req)); err != nil {
		t.Errorf("kill: %v", err)
	}
}

func TestLeavingClient(t *testing.T) {
	r := newRig(t, nil)
	fifo := filepath.Join(r.home, "done")
	if err := syscall.Mkfifo(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	// Far more than pipes and sockets hold: the program can finish only if its
	// output is discarded once the client has gone.
	stream, out := r.start(t, ctx, sh("head -c 50000000 /dev/zero; echo done > done"))
	stream.collect(out, func(o *outcome) bool { return len(o.stdout) > 1<<20 })
	leave()
	if got, err := os.ReadFile(fifo); err != nil || string(got) != "done\n" {
		t.Errorf("got %q, %v", got, err)
	}
	again, seen := r.attach(t, byPID(out.pid))
	again.collect(seen, nil)
	if got, want := seen.end.GetStatus(), "exit status 0"; got != want {
		t.Errorf("ended with %q, want %q", got, want)
	}
}

func TestSlowClientLosesNothing(t *testing.T) {
	r := newRig(t, nil)
	const size = 20_000_000
	out := r.run(t, sh("head -c "+strconv.Itoa(size)+" /dev/zero"))
	if got, want := len(out.stdout), size; got != want {
		t.Errorf("got %d bytes, want %d", got, want)
	}
}

func TestDeadline(t *testing.T) {
	r := newRig(t, nil)
	t.Run("kills the program and ends the stream", func(t *testing.T) {
		res := raw(t, r.url, "Start", `{"process":{"cmd":"sleep","args":["1000"]},"stdin":false}`,
			"Connect-Timeout-Ms", "300")
		last := res.frames[len(res.frames)-1]
		mustContain(t, "last frame", last.data, `"code":"deadline_exceeded"`)
		stream, out := r.attach(t, byPID(res.pid(t)))
		stream.collect(out, nil)
		if got, want := out.end.GetStatus(), "signal: killed"; got != want {
			t.Errorf("ended with %q, want %q", got, want)
		}
	})
	t.Run("holds for a program whose client has gone", func(t *testing.T) {
		ctx, leave := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer leave()
		_, out := r.start(t, ctx, command("sleep", "1000"))
		leave()
		stream, seen := r.attach(t, byPID(out.pid))
		stream.collect(seen, nil)
		if got, want := seen.end.GetStatus(), "signal: killed"; got != want {
			t.Errorf("ended with %q, want %q", got, want)
		}
	})
	t.Run("of a listener leaves the program alone", func(t *testing.T) {
		_, out := r.start(t, soon(t), command("sleep", "1000"))
		res := raw(t, r.url, "Connect", `{"process":{"pid":`+strconv.Itoa(int(out.pid))+`}}`, "Connect-Timeout-Ms", "100")
		mustContain(t, "last frame", res.frames[len(res.frames)-1].data, `"code":"deadline_exceeded"`)
		kill(t, r, out.pid)
	})
}

func TestSignOfLife(t *testing.T) {
	r := newRig(t, nil)
	req := connect.NewRequest(command("sleep", "1000"))
	req.Header().Set("Keepalive-Ping-Interval", "1")
	s, err := r.Start(soon(t), req)
	if err != nil {
		t.Fatal(err)
	}
	out := &outcome{}
	startStream(s).collect(out, func(o *outcome) bool { return o.alive == 2 })
	if got, want := out.alive, 2; got != want {
		t.Errorf("got %d, want %d (%v)", got, want, out.err)
	}
}

func TestDescendantsHoldingOutputs(t *testing.T) {
	r := newRig(t, nil)
	for _, test := range []struct{ name, script string }{
		{"silent ones do not delay the end for ever", "sleep 1000 & echo $!; exit 5"},
		{"noisy ones do not delay the end for ever", "(while :; do echo noise; sleep 0.2; done) & echo $!; exit 5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := r.run(t, sh(test.script))
			if got, want := out.end.GetExitCode(), int32(5); got != want {
				t.Errorf("exit code %d, want %d (%v)", got, want, out.err)
			}
			// The descendant may speak before the shell says its id.
			said := strings.Fields(strings.ReplaceAll(out.stdout, "noise\n", ""))
			if len(said) != 1 {
				t.Fatalf("no process id in %q", out.stdout)
			}
			killJob(t, said[0])
		})
	}
}

func TestLastOutput(t *testing.T) {
	const size = 60_000 // fits a pipe
	pipe := func() (r, w *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close() })
		if _, err := w.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		return r, w
	}
	t.Run("comes even if nothing was read before the exit", func(t *testing.T) {
		r, w := pipe()
		w.Close()
		if got, err := process.CarryExited(t.Context(), r); got != size || err != nil {
			t.Errorf("got %d bytes, want %d (%v)", got, size, err)
		}
	})
	t.Run("comes even if the client stalls beyond the overtime, and no more", func(t *testing.T) {
		r, w := pipe()
		go func() { // a descendant
			for {
				if _, err := w.Write([]byte("noise")); err != nil {
					return
				}
			}
		}()
		if got := process.Drain(t.Context(), r, time.Unix(1, 0)); got < size {
			t.Errorf("got %d bytes, want at least %d", got, size)
		}
	})
}
