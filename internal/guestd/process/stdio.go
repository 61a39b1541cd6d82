package process

import (
	"errors"
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
		f.Close() // nil or closed before is fine
	}
	*files = nil
}

// openPipes makes a pipe for each output and, if wanted, for the input; a
// program without input reads from /dev/null.
func (s *Service) openPipes(stdin bool) (*stdio, error) {
	in, feed, err1 := os.Pipe()
	stdout, out, err2 := os.Pipe()
	stderr, errOut, err3 := os.Pipe()
	ends := &stdio{
		child:   [3]*os.File{in, out, errOut},
		input:   feed,
		outputs: []source{{stdout, pipeChunk, stdoutEvent}, {stderr, pipeChunk, stderrEvent}},
		theirs:  []*os.File{in, out, errOut},
		ours:    []*os.File{feed, stdout, stderr},
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		ends.close()
		return nil, err
	}
	if !stdin {
		feed.Close() // a pipe at its end does as well where there was no /dev/null
		ends.input = nil
		if s.null != nil {
			ends.child[0] = s.null
		}
	}
	return ends, nil
}

// openTTY makes a terminal of that size that belongs to uid.
func openTTY(size *pb.PTY_Size, uid uint32) (*stdio, error) {
	ptmx, err := openPtmx()
	if err != nil {
		return nil, err
	}
	slave, err := openSlave(ptmx)
	ends := &stdio{
		child:   [3]*os.File{slave, slave, slave},
		input:   ptmx,
		tty:     ptmx,
		outputs: []source{{ptmx, ttyChunk, ttyEvent}},
		theirs:  []*os.File{slave},
		ours:    []*os.File{ptmx},
	}
	if err == nil {
		err = resize(ptmx, size)
	}
	if err == nil {
		// Programs that open /dev/tty again after su, and mesg(1), need the
		// terminal to be the user's, as every login makes it.
		err = slave.Chown(int(uid), -1)
	}
	if err != nil {
		ends.close()
		return nil, err
	}
	return ends, nil
}

// openSlave opens the program's end of a terminal. TIOCGPTPEER needs no path,
// so it works whatever became of /dev/pts (ioctl_tty(2)).
func openSlave(ptmx *os.File) (*os.File, error) {
	var slave *os.File
	err := fd.Use(ptmx, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil { // unlockpt(3)
			return os.NewSyscallError("unlock terminal", err)
		}
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER,
			unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
		if errno != 0 {
			return os.NewSyscallError("open terminal", errno)
		}
		slave = os.NewFile(n, "pts")
		return nil
	})
	return slave, err
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
