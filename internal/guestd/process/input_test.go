package process_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	pb "bulkhead/proto/process"
)

func closeStdin(pid uint32) *connect.Request[pb.CloseStdinRequest] {
	return connect.NewRequest(&pb.CloseStdinRequest{Process: byPID(pid)})
}

func TestInput(t *testing.T) {
	r := newRig(t, nil)
	t.Run("reaches the program, then end of file", func(t *testing.T) {
		stream, out := r.start(t, soon(t), command("cat"))
		for _, text := range []string{"one\n", "", "two"} {
			r.send(t, out.pid, text)
		}
		stream.collect(out, func(o *outcome) bool { return o.stdout == "one\ntwo" })
		for range 2 { // closing twice is no error
			if _, err := r.CloseStdin(t.Context(), closeStdin(out.pid)); err != nil {
				// The program may have gone after the first.
				if connect.CodeOf(err) != connect.CodeNotFound {
					t.Error(err)
				}
			}
		}
		stream.collect(out, nil)
		if got, want := out.end.GetStatus(), "exit status 0"; got != want {
			t.Errorf("ended with %q, want %q", got, want)
		}
	})
	t.Run("is refused after end of file", func(t *testing.T) {
		_, out := r.start(t, soon(t), command("sleep", "1000"))
		for range 2 {
			if _, err := r.CloseStdin(t.Context(), closeStdin(out.pid)); err != nil {
				t.Error(err)
			}
		}
		_, err := r.SendInput(t.Context(), input(out.pid, "late"))
		if got, want := connect.CodeOf(err), connect.CodeInternal; got != want {
			t.Errorf("got %v, want %v", err, want)
		}
	})
	t.Run("waits for room no longer than the caller", func(t *testing.T) {
		_, out := r.start(t, soon(t), command("sleep", "1000"))
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := r.SendInput(ctx, input(out.pid, strings.Repeat("x", 1<<20)))
		if got, want := connect.CodeOf(err), connect.CodeDeadlineExceeded; got != want {
			t.Errorf("got %v, want %v", err, want)
		}
		// The turn was passed on: the end of file does not wait behind it.
		if _, err := r.CloseStdin(soon(t), closeStdin(out.pid)); err != nil {
			t.Error(err)
		}
	})
}

func TestStreamInput(t *testing.T) {
	r := newRig(t, nil)
	stream, out := r.start(t, soon(t), command("cat"))
	in := r.StreamInput(t.Context())
	send := func(m *pb.StreamInputRequest) {
		if err := in.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	send(&pb.StreamInputRequest{Event: &pb.StreamInputRequest_Start{
		Start: &pb.StreamInputRequest_StartEvent{Process: byPID(out.pid)}}})
	want := strings.Repeat("0123456789", 100_000)
	for piece := want; piece != ""; piece = piece[len(piece)/2+1:] {
		send(&pb.StreamInputRequest{Event: &pb.StreamInputRequest_Keepalive{}})
		send(&pb.StreamInputRequest{Event: &pb.StreamInputRequest_Data{Data: &pb.StreamInputRequest_DataEvent{
			Input: &pb.ProcessInput{Input: &pb.ProcessInput_Stdin{Stdin: []byte(piece[:len(piece)/2+1])}}}}})
		if len(piece) == 1 {
			break
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := in.CloseAndReceive()
		if err == nil {
			_, err = r.CloseStdin(context.WithoutCancel(t.Context()), closeStdin(out.pid))
		}
		done <- err
	}()
	stream.collect(out, nil)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := out.stdout; got != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
}

// killJob ends a descendant that a program left behind, which must still be
// there, with all of its group.
func killJob(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(pid))
	if err != nil {
		t.Fatal(err)
	}
	group, err := unix.Getpgid(n)
	if err == nil {
		err = unix.Kill(-group, unix.SIGKILL)
	}
	if err != nil {
		t.Errorf("kill job %d: %v", n, err)
	}
	for err == nil { // its parent has gone, so it is this process's to reap
		_, err = unix.Wait4(-group, nil, 0, nil)
	}
}

func TestTerminal(t *testing.T) {
	r := newRig(t, nil)
	pty := func(m *pb.StartRequest, cols, rows uint32) *pb.StartRequest {
		m.Pty = &pb.PTY{Size: &pb.PTY_Size{Cols: cols, Rows: rows}}
		return m
	}
	t.Run("has the size asked for, then the new one", func(t *testing.T) {
		stream, out := r.start(t, soon(t), pty(sh("stty size; read x; stty size"), 100, 30))
		stream.collect(out, func(o *outcome) bool { return strings.Contains(o.pty, "30 100\r\n") })
		req := &pb.UpdateRequest{Process: byPID(out.pid), Pty: &pb.PTY{Size: &pb.PTY_Size{Cols: 70000, Rows: 7}}}
		if _, err := r.Update(t.Context(), connect.NewRequest(req)); err != nil {
			t.Error(err)
		}
		if _, err := r.SendInput(t.Context(), ptyInput(out.pid, "go\n")); err != nil {
			t.Error(err)
		}
		stream.collect(out, nil)
		if got, want := out.pty, "30 100\r\ngo\r\n7 65535\r\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got, want := out.end.GetStatus(), "exit status 0"; got != want {
			t.Errorf("ended with %q, want %q", got, want)
		}
	})
	for _, test := range []struct {
		name string
		req  *pb.StartRequest
		want string
	}{
		{"has a classic size by default", pty(sh("stty size"), 0, 0), "24 80\r\n"},
		{"belongs to the user", pty(sh("stat -L -c '%u' /proc/self/fd/0"), 0, 0), "65534\r\n"},
		{"is the controlling one", pty(sh("echo hi > /dev/tty"), 0, 0), "hi\r\n"},
		{"shows an unknown program", pty(command("no-such-program"), 0, 0), "bulkhead: no-such-program: not found\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := r.run(t, test.req)
			if got, want := out.pty, test.want; got != want || out.stdout+out.stderr != "" {
				t.Errorf("got %q, want %q (%v)", got, want, out.err)
			}
		})
	}
	t.Run("ends with its leader though jobs stay", func(t *testing.T) {
		pidFile := filepath.Join(r.home, "job")
		out := r.run(t, pty(sh("trap '' HUP; sleep 1000 & echo $! > "+pidFile+"; echo bye"), 0, 0))
		text, err := os.ReadFile(pidFile)
		if err != nil {
			t.Fatal(err)
		}
		killJob(t, string(text))
		if got, want := out.pty, "bye\r\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("takes ctrl-d as end of input", func(t *testing.T) {
		stream, out := r.start(t, soon(t), pty(command("cat"), 0, 0))
		if _, err := r.SendInput(t.Context(), ptyInput(out.pid, "a\n\x04")); err != nil {
			t.Error(err)
		}
		stream.collect(out, nil)
		if got, want := out.pty, "a\r\na\r\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
