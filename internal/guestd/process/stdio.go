package process

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"bulkhead/internal/guestd/fd"
	pb "bulkhead/proto/process"
)

// stdio is what a program and the service hold of the same pipes or terminal.
type stdio struct {
	child   [3]*os.File // for the program's descriptors 0 to 2
	input   *os.File    // where its input is written; nil if it gets none
	tty     *os.File    // the controlling end of its terminal, or nil
	outputs []source

	theirs []*os.File // to close once the program has started
	ours   []*os.File // to close at its end
}

// started closes the program's ends: a pipe reaches its end only when nobody
// else can write to it.
func (ends *stdio) started() { closeAll(&ends.theirs) }

// close closes everything that is still open.
func (ends *stdio) close() {
	closeAll(&ends.theirs)
	closeAll(&ends.ours)
}

func closeAll(files *[]*os.File) {
	for _, f := range *files {
		f.Close()
	}
	*files = nil
}

// openPipes makes a pipe for each output and, if wanted, for the input; a
// program without input reads from /dev/null.
func (s *Service) openPipes(stdin bool) (ends *stdio, err error) {
	ends = &stdio{}
	defer func() {
		if err != nil {
			ends.close()
		}
	}()
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
		}
		return r, w
	}
	in, feed := pipe()
	stdout, out := pipe()
	stderr, errOut := pipe()
	if err != nil {
		return nil, err
	}
	ends.child = [3]*os.File{in, out, errOut}
	ends.theirs = []*os.File{in, out, errOut}
	ends.ours = []*os.File{stdout, stderr}
	ends.outputs = []source{{stdout, pipeChunk, stdoutEvent}, {stderr, pipeChunk, stderrEvent}}
	if stdin {
		ends.input = feed
		ends.ours = append(ends.ours, feed)
		return ends, nil
	}
	feed.Close() // without a /dev/null, a pipe at its end does as well
	if s.null != nil {
		ends.child[0] = s.null
	}
	return ends, nil
}

// openTTY makes a terminal of that size that belongs to uid.
func openTTY(size *pb.PTY_Size, uid uint32) (ends *stdio, err error) {
	ptmx, err := openPtmx()
	if err != nil {
		return nil, err
	}
	ends = &stdio{ours: []*os.File{ptmx}}
	defer func() {
		if err != nil {
			ends.close()
		}
	}()
	var peer int
	err = fd.Use(ptmx, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil { // unlockpt(3)
			return os.NewSyscallError("unlock terminal", err)
		}
		// Needs no path, so it works whatever became of /dev/pts (ioctl_tty(2)).
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER,
			unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
		if errno != 0 {
			return os.NewSyscallError("open terminal", errno)
		}
		peer = int(n)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slave := os.NewFile(uintptr(peer), "pts")
	ends.theirs = []*os.File{slave}
	// Programs that open /dev/tty again after su, and mesg(1), need the
	// terminal to be the user's, as every login makes it.
	if err := slave.Chown(int(uid), -1); err != nil {
		return nil, err
	}
	if err := resize(ptmx, size); err != nil {
		return nil, err
	}
	ends.child = [3]*os.File{slave, slave, slave}
	ends.input, ends.tty = ptmx, ptmx
	ends.outputs = []source{{ptmx, ttyChunk, ttyEvent}}
	return ends, nil
}

// openPtmx opens a new terminal. A wiped guest has lost /dev/ptmx, which is an
// ordinary node, but not the one inside the devpts mount.
func openPtmx() (*os.File, error) {
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		f, err = os.OpenFile("/dev/pts/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	return f, err
}

// resize sets a terminal's size; 0 means the classic 80 by 24.
func resize(tty *os.File, size *pb.PTY_Size) error {
	ws := &unix.Winsize{Col: cells(size.GetCols(), 80), Row: cells(size.GetRows(), 24)}
	return fd.Use(tty, func(fd int) error {
		return os.NewSyscallError("resize terminal", unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, ws))
	})
}

func cells(n uint32, instead uint16) uint16 {
	if n == 0 {
		return instead
	}
	return uint16(min(n, 1<<16-1))
}

func stdoutEvent(b []byte) *pb.ProcessEvent_DataEvent {
	return &pb.ProcessEvent_DataEvent{Output: &pb.ProcessEvent_DataEvent_Stdout{Stdout: b}}
}

func stderrEvent(b []byte) *pb.ProcessEvent_DataEvent {
	return &pb.ProcessEvent_DataEvent{Output: &pb.ProcessEvent_DataEvent_Stderr{Stderr: b}}
}

func ttyEvent(b []byte) *pb.ProcessEvent_DataEvent {
	return &pb.ProcessEvent_DataEvent{Output: &pb.ProcessEvent_DataEvent_Pty{Pty: b}}
}
