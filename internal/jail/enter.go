package jail

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"bulkhead/internal/jail/seccomp"

	"golang.org/x/sys/unix"
)

// childName is the argument 0 of a child.
const childName = "bulkhead-jail"

// Enter must come first in the main of a program that uses Start. It returns
// at once, unless this process is a child that is to lock itself in: then it
// never does.
func Enter() {
	if len(os.Args) != 2 || os.Args[0] != childName {
		return
	}
	// Capabilities and filters are a thread's; so is what it becomes.
	runtime.LockOSThread()
	inherited, err := strconv.Atoi(os.Args[1])
	if err != nil {
		os.Exit(1)
	}
	control := os.NewFile(uintptr(3+inherited), "control")
	status := os.NewFile(uintptr(4+inherited), "status")
	var p plan
	words, err := io.ReadAll(control)
	if err != nil || json.Unmarshal(words, &p) != nil {
		os.Exit(1) // whoever started us has ended in the middle
	}
	fmt.Fprint(status, p.carryOut())
	os.Exit(1)
}

// carryOut locks this process in and makes it the program. It returns only
// with an error.
func (p plan) carryOut() error {
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"hide control groups", func() error { return unix.Unshare(unix.CLONE_NEWCGROUP) }},
		{"set host name", func() error { return unix.Sethostname([]byte(p.Hostname)) }},
		{"change root", p.changeRoot},
		{"close descriptors", p.closeRest},
		{"set limits", p.setLimits},
		{"drop privileges", p.dropPrivileges},
		{"filter system calls", func() error { return seccomp.Install(p.Filter) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return fmt.Errorf("run program: %w", syscall.Exec(p.Path, p.Args, []string{"PATH=/usr/bin:/bin"}))
}

// changeRoot makes the root the only thing that is left of the file system.
// Pivoting onto itself stacks the old root over the new one, from where it is
// taken away (pivot_root(2), "pivot_root(".", ".")").
func (p plan) changeRoot() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.MoveMount(p.Root, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	for _, f := range p.Files {
		to := strings.TrimPrefix(filepath.Clean(f.Inside), "/")
		if err := unix.MoveMount(f.FD, "", p.Root, to, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount %s: %w", f.Inside, err)
		}
	}
	return errors.Join(unix.Fchdir(p.Root), unix.PivotRoot(".", "."),
		unix.Unmount(".", unix.MNT_DETACH), unix.Chdir("/"))
}

// closeRest has all descriptors closed that are not the program's.
func (p plan) closeRest() error {
	for fd := range 3 + p.Inherit {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	return unix.CloseRange(uint(3+p.Inherit), ^uint(0)>>32, unix.CLOSE_RANGE_CLOEXEC)
}

func (p plan) setLimits() error {
	unix.Umask(0o077)
	for _, l := range p.Limits {
		if err := unix.Setrlimit(l.Resource, &unix.Rlimit{Cur: l.Most, Max: l.Most}); err != nil {
			return fmt.Errorf("limit %d: %w", l.Resource, err)
		}
	}
	return nil
}

// The flags that keep uid 0, which a cage does not have, from meaning
// anything, for good (capabilities(7), from linux/securebits.h).
const securebits = 1<<0 | 1<<1 | // SECBIT_NOROOT and its lock
	1<<2 | 1<<3 | // SECBIT_NO_SETUID_FIXUP
	1<<5 | // SECBIT_KEEP_CAPS_LOCKED
	1<<6 | 1<<7 // SECBIT_NO_CAP_AMBIENT_RAISE

func (p plan) dropPrivileges() error {
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && c > unix.CAP_CHECKPOINT_RESTORE {
			break // the kernel knows no more
		}
		if err != nil {
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	if err := errors.Join(
		unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0),
		unix.Prctl(unix.PR_SET_SECUREBITS, securebits, 0, 0, 0),
	); err != nil {
		return err
	}
	if p.UID != 0 {
		if err := errors.Join(unix.Setgroups(nil), unix.Setresgid(p.UID, p.UID, p.UID),
			unix.Setresuid(p.UID, p.UID, p.UID)); err != nil {
			return err
		}
	}
	var none [2]unix.CapUserData // version 3 has two words per set
	return errors.Join(
		unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]),
		unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
	)
}
