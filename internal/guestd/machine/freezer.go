package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// freezeLimit bounds the wait for the kernel to stop everything. A process in
// the middle of a disk write delays it.
const freezeLimit = 5 * time.Second

// Freezer stops and thaws everything in the guest but the agent, by the
// freezer of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst,
// "cgroup.freeze").
//
// The agent sits in <own>/agent and starts processes in <own>/work, where own
// is its service's cgroup. Frozen are all groups beside the path from the
// root to <own>/agent: together they hold every other process.
type Freezer struct {
	root *os.Root // of the cgroup file system, kept open
	path []string // from the root to the agent's group
	work *os.File

	// starts is held by whoever starts a process, and locked while all is frozen.
	// A child that is born into a frozen group stops before it has become its
	// program, and until it has, the kernel holds up the thread that made it and
	// Go's runtime the processor that this ran on (CLONE_VFORK in a raw system
	// call): with one processor that is the whole agent, which then never thaws.
	starts sync.RWMutex

	mu     sync.Mutex
	frozen bool // guarded by mu
}

// NewFreezer moves the agent into a group of its own below the one it is in.
// mount is where cgroup v2 is mounted.
func NewFreezer(mount string) (*Freezer, error) {
	own, err := ownGroup()
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(mount)
	if err != nil {
		return nil, err
	}
	own = strings.TrimSuffix(own, "/agent") // an agent that was started again
	agent := filepath.Join(own, "agent")
	work, err := enter(root, agent, filepath.Join(own, "work"))
	if err != nil {
		root.Close()
		return nil, err
	}
	return &Freezer{root: root, path: strings.Split(strings.Trim(agent, "/"), "/"), work: work}, nil
}

// enter makes both groups, moves this process into the first, and opens the
// second.
func enter(root *os.Root, agent, work string) (*os.File, error) {
	for _, dir := range []string{agent, work} {
		if err := root.Mkdir(rel(dir), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make group: %w", err)
		}
	}
	if err := write(root, filepath.Join(agent, "cgroup.procs"), "0"); err != nil {
		return nil, fmt.Errorf("enter group: %w", err)
	}
	return root.Open(rel(work))
}

// ownGroup reads the "0::/path" line of /proc/self/cgroup (cgroups(7)).
func ownGroup() (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path, nil
		}
	}
	return "", errors.New("no cgroup v2")
}

// Work returns the group in which processes start, once nothing is frozen. The
// caller calls done as soon as one has started or could not be.
func (f *Freezer) Work() (group *os.File, done func(), err error) {
	f.starts.RLock()
	return f.work, f.starts.RUnlock, nil
}

// Frozen reports whether Freeze succeeded since the last Thaw.
func (f *Freezer) Frozen() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.frozen
}

// Freeze stops everything, what is just being started after its start, and
// returns how many groups that took. On error everything runs again.
func (f *Freezer) Freeze(ctx context.Context) (groups int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, freezeLimit)
	defer cancel()
	if !f.frozen {
		f.starts.Lock()
		f.frozen = true
	}
	if groups, err = f.freeze(ctx); err != nil {
		err = errors.Join(err, f.thaw())
		f.release()
		return 0, err
	}
	return groups, nil
}

// release lets processes start again. mu is held.
func (f *Freezer) release() {
	if f.frozen {
		f.frozen = false
		f.starts.Unlock()
	}
}

func (f *Freezer) freeze(ctx context.Context) (groups int, err error) {
	for {
		// Groups that appear meanwhile are made by processes that still run;
		// once a pass finds all frozen, nothing runs that could make one.
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		all, err := f.others()
		if err != nil {
			return 0, err
		}
		fresh := 0
		groups = 0
		for _, g := range all {
			was, err := f.freezeGroup(ctx, g)
			if gone(err) {
				continue
			}
			if err != nil {
				return 0, fmt.Errorf("freeze %s: %w", g, err)
			}
			groups++
			if !was {
				fresh++
			}
		}
		if fresh == 0 {
			return groups, nil
		}
	}
}

// Thaw lets everything run again. Repeating it is no error.
func (f *Freezer) Thaw() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.thaw(); err != nil {
		return err
	}
	f.release()
	return nil
}

func (f *Freezer) thaw() error {
	all, err := f.others()
	errs := []error{err}
	for _, g := range all {
		if err := write(f.root, filepath.Join(g, "cgroup.freeze"), "0"); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("thaw %s: %w", g, err))
		}
	}
	return errors.Join(errs...)
}

// gone reports whether a group has been removed: its folder cannot be found,
// or its open files have no device.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

// others lists the groups beside the agent's path: at each level, all but the
// one that leads to the agent. On error it lists those that it found.
func (f *Freezer) others() (found []string, err error) {
	at := "."
	for _, step := range f.path {
		entries, err := fs.ReadDir(f.root.FS(), at)
		if err != nil {
			return found, fmt.Errorf("list groups: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() && e.Name() != step {
				found = append(found, filepath.Join(at, e.Name()))
			}
		}
		at = filepath.Join(at, step)
	}
	return found, nil
}

// freezeGroup freezes one group and waits until the kernel says so. It
// reports whether the group was frozen before.
func (f *Freezer) freezeGroup(ctx context.Context, group string) (was bool, err error) {
	events, err := f.root.Open(rel(filepath.Join(group, "cgroup.events")))
	if err != nil {
		return false, err
	}
	defer events.Close()
	if was, err = isFrozen(events); err != nil {
		return false, err
	}
	if err := write(f.root, filepath.Join(group, "cgroup.freeze"), "1"); err != nil {
		return false, err
	}
	for {
		if frozen, err := isFrozen(events); err != nil || frozen {
			return was, err
		}
		if ctx.Err() != nil {
			return false, fmt.Errorf("not all of it stopped: %w", ctx.Err())
		}
		// The kernel reports a change of cgroup.events by POLLPRI.
		poll := []unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(poll, 100); err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
	}
}

func isFrozen(events *os.File) (bool, error) {
	buf := make([]byte, 256) // two short lines
	n, err := unix.Pread(int(events.Fd()), buf, 0)
	return err == nil && strings.Contains(string(buf[:n]), "frozen 1"), err
}

func write(root *os.Root, path, value string) error {
	f, err := root.OpenFile(rel(path), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// rel makes a path of the group hierarchy one below its root.
func rel(path string) string { return filepath.Join(".", path) }
