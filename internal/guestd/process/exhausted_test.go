package process_test

import (
	"errors"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	pb "bulkhead/proto/process"
)

// TestOutOfDescriptors leaves the agent fewer and fewer descriptors, so that
// every step of a start fails once, and checks that none of them keeps any.
func TestOutOfDescriptors(t *testing.T) {
	r := newRig(t, nil)
	if out := r.run(t, command("true")); out.err != nil { // the connection is open from here on
		t.Fatal(out.err)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = 256
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	}()
	var held []int
	defer func() {
		for _, fd := range held {
			unix.Close(fd)
		}
	}()
	for {
		fd, err := unix.Dup(1)
		if errors.Is(err, unix.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, fd)
	}
	terminal := command("true")
	terminal.Pty = &pb.PTY{}
	for _, m := range []*pb.StartRequest{command("true"), terminal} {
		for free := range 8 {
			for range free {
				unix.Close(held[len(held)-1])
				held = held[:len(held)-1]
			}
			err := starting(m, "root")(soon(t), r, 0)
			if err != nil && connect.CodeOf(err) != connect.CodeResourceExhausted {
				t.Errorf("with %d descriptors: got %v, want %v", free, err, connect.CodeResourceExhausted)
			}
			if free == 0 && err == nil {
				t.Error("started without any descriptor")
			}
			for range free { // all of them must be free again
				fd, dupErr := unix.Dup(1)
				if dupErr != nil {
					t.Fatalf("after %v with %d descriptors: %v", err, free, dupErr)
				}
				held = append(held, fd)
			}
		}
	}
}
