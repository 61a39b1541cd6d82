package jail

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// logSize bounds what a program can print, in bytes. The first words are kept
// and writing more fails, which is what those who print ignore.
const logSize = 32 << 10

// logName marks the log among descriptors.
const logName = "bulkhead-log"

// newLog returns a file in memory that cannot grow: nothing that a program
// prints takes space of the host, and no reader is needed.
func newLog() (*os.File, error) {
	fd, err := unix.MemfdCreate(logName, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	f := os.NewFile(uintptr(fd), logName)
	err = f.Truncate(logSize)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("make log: %w", err)
	}
	return f, nil
}

// openLog opens the log of a process that runs; nil if it has none any more.
func openLog(pid int) *os.File {
	path := fmt.Sprintf("/proc/%d/fd/2", pid)
	if target, err := os.Readlink(path); err != nil || !strings.HasPrefix(target, "/memfd:"+logName) {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	return f
}

// Log returns the beginning of what the program printed, at most 32 KiB.
func (p *Process) Log() string {
	if p.log == nil {
		return ""
	}
	b := make([]byte, logSize)
	n, _ := p.log.ReadAt(b, 0) // what can be read is the answer
	text, _, _ := bytes.Cut(b[:n], []byte{0})
	return string(text)
}
