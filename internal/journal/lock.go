package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"bulkhead/internal/fault"
)

// Lock makes its process the only daemon on a state directory.
type Lock struct {
	file *os.File
}

// AcquireLock takes the state directory, which it makes (0700) if it does not
// exist. If another process has it, the error is a fault.Unavailable that
// names the process. The lock ends with Release or with the process, however
// it ends; children do not inherit it once they are programs of their own.
func AcquireLock(stateDir string) (*Lock, error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(stateDir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of state directory: %w", err)
	}
	if err := lockSoon(f); err != nil {
		return nil, errors.Join(holderError(err, f, stateDir), f.Close())
	}
	return &Lock{file: f}, nil
}

// lingers is how long the lock of a process that is gone may be held by a child
// that it had just forked and that is not yet another program.
const lingers = 5 * time.Second

// lockSoon is lock, but waits for such a child.
func lockSoon(f *os.File) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(lingers)
	for {
		err := lock(f)
		if !errors.Is(err, syscall.EWOULDBLOCK) || !gone(readPID(f)) {
			return err
		}
		select {
		case <-tick.C:
		case <-limit:
			return err
		}
	}
}

// gone reports whether there is no process of a number; 0 is nobody's.
func gone(pid int) bool { return pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func lock(f *os.File) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func holderError(err error, f *os.File, stateDir string) error {
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("lock state directory %s: %w", stateDir, err)
	}
	holder := "another process"
	if pid := readPID(f); pid > 0 {
		holder = fmt.Sprintf("process %d", pid)
	}
	return fault.New(fault.Unavailable, "state directory %s is in use by %s", stateDir, holder).
		Hint("end that daemon first, or give this one another --state-dir")
}

// readPID returns 0 if the holder has not written its number yet.
func readPID(f *os.File) int {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return 0
	}
	return pid
}

// Release gives the state directory up. Repeating it is no error. The file
// stays: removing it would let two processes hold two files of one name.
func (l *Lock) Release() error {
	if err := l.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("release state directory: %w", err)
	}
	return nil
}

// EndHolder asks the process that has the state directory to end at once. It
// does not wait. Nobody having it is no error.
func EndHolder(stateDir string) error {
	f, err := os.Open(filepath.Join(stateDir, "lock"))
	if err != nil {
		return fmt.Errorf("open lock of state directory: %w", err)
	}
	defer f.Close()
	pid := readPID(f)
	if pid <= 1 {
		return nil
	}
	// The number is the holder's as long as the lock is held: a process that
	// took the lock wrote its own.
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end process %d: %w", pid, err)
	}
	return nil
}
