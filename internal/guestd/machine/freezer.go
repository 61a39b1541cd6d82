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

	mu     sync.Mutex
	frozen bool // guarded by mu
}

// NewFreezer moves the agent into a group of its own below the one it is in.
// mount is where cgroup v2 is mounted.
func NewFreezer(mount string) (*Freezer, error) {
	root, err := os.OpenRoot(mount)
	if err != nil {
		return nil, err
	}
	own, err := ownGroup()
	if err != nil {
		return nil, err
	}
	own = strings.TrimSuffix(own, "/agent") // an agent that was started again
	agent, work := filepath.Join(own, "agent"), filepath.Join(own, "work")
	for _, dir := range []string{agent, work} {
		if err := root.Mkdir(rel(dir), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make group: %w", err)
		}
	}
	if err := write(root, filepath.Join(agent, "cgroup.procs"), "0"); err != nil {
		return nil, fmt.Errorf("enter group: %w", err)
	}
	dir, err := root.Open(rel(work))
	if err != nil {
		return nil, err
	}
	return &Freezer{root: root, path: strings.Split(strings.Trim(agent, "/"), "/"), work: dir}, nil
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

// Work returns the group in which processes are to start.
func (f *Freezer) Work() (*os.File, error) { return f.work, nil }

// Frozen reports whether Freeze succeeded since the last Thaw.
func (f *Freezer) Frozen() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.frozen
}

// Freeze stops everything and returns how many groups that took. On error
// everything runs again.
func (f *Freezer) Freeze(ctx context.Context) (groups int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, freezeLimit)
	defer cancel()
	done := map[string]bool{}
	for {
		// Groups that appear meanwhile are made by processes that still run;
		// once a pass finds none, nothing runs that could make one.
		fresh := 0
		for _, g := range f.others() {
			if done[g] {
				continue
			}
			err := f.freezeGroup(ctx, g)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
				continue // gone since
			}
			if err != nil {
				f.thaw()
				return 0, fmt.Errorf("freeze %s: %w", g, err)
			}
			done[g] = true
			fresh++
		}
		if fresh == 0 {
			f.frozen = true
			return len(done), nil
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
	f.frozen = false
	return nil
}

func (f *Freezer) thaw() error {
	var errs []error
	for _, g := range f.others() {
		err := write(f.root, filepath.Join(g, "cgroup.freeze"), "0")
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("thaw %s: %w", g, err))
		}
	}
	return errors.Join(errs...)
}

// others lists the groups beside the agent's path: at each level, all but the
// one that leads to the agent.
func (f *Freezer) others() []string {
	var found []string
	at := "."
	for _, step := range f.path {
		dir, err := f.root.Open(at)
		if err == nil {
			entries, _ := dir.ReadDir(-1) // what can be read is what exists
			dir.Close()
			for _, e := range entries {
				if e.IsDir() && e.Name() != step {
					found = append(found, filepath.Join(at, e.Name()))
				}
			}
		}
		at = filepath.Join(at, step)
	}
	return found
}

// freezeGroup freezes one group and waits until the kernel says so. The
// kernel reports a change of cgroup.events by POLLPRI.
func (f *Freezer) freezeGroup(ctx context.Context, group string) error {
	if err := write(f.root, filepath.Join(group, "cgroup.freeze"), "1"); err != nil {
		return err
	}
	events, err := f.root.Open(rel(filepath.Join(group, "cgroup.events")))
	if err != nil {
		return err
	}
	defer events.Close()
	buf := make([]byte, 256)
	for {
		n, err := unix.Pread(int(events.Fd()), buf, 0)
		if err != nil {
			return err
		}
		if strings.Contains(string(buf[:n]), "frozen 1") {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("not all of it stopped: %w", ctx.Err())
		}
		poll := []unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(poll, 100); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
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
