package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Group is a control group, which may exist or not.
type Group struct {
	host *Host
	name string
}

// in returns the group's folder in a hierarchy. What is no name leads to where
// nothing can be: ".." would be the host's own group, with everybody in it.
func (g *Group) in(hierarchy string) string {
	if !valid(g.name) {
		return filepath.Join(hierarchy, parent, "\x00") // EINVAL whatever one does
	}
	return filepath.Join(hierarchy, parent, g.name)
}

// Add moves a process and its threads into the group.
func (g *Group) Add(pid int) error {
	for _, h := range g.host.hierarchies() {
		if err := write(filepath.Join(g.in(h), "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

// Folder opens the group's folder of version 2, in which a process can be
// started (clone3(2), CLONE_INTO_CGROUP); nil if the host has none.
func (g *Group) Folder() (*os.File, error) {
	if g.host.version2 == "" {
		return nil, nil
	}
	return os.Open(g.in(g.host.version2))
}

// PIDs lists the processes that are in the group in any hierarchy.
func (g *Group) PIDs() ([]int, error) {
	pids := map[int]bool{}
	for _, h := range g.host.hierarchies() {
		b, err := os.ReadFile(filepath.Join(g.in(h), "cgroup.procs"))
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, f := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				return nil, err
			}
			if pid <= 0 { // to signal that would be to signal ourselves
				return nil, fmt.Errorf("control group %s has a process of another PID namespace", g.name)
			}
			pids[pid] = true
		}
	}
	return slices.Sorted(maps.Keys(pids)), nil
}

// gone is the answer for a group that does not exist, or ceased to.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

// Usage is what a group takes at the moment; CPU is since its beginning.
type Usage struct {
	MemoryBytes int64
	CPU         time.Duration
	PIDs        int
}

// Usage reads what the group takes. What the host does not count is 0.
func (g *Group) Usage() (u Usage, err error) {
	read := func(controller, file1, file2 string, take func(string) error) {
		for version, file := range map[int]string{1: file1, 2: file2} {
			dir, ok := g.dir(controller, version)
			if !ok || err != nil {
				continue
			}
			var b []byte
			if b, err = os.ReadFile(filepath.Join(dir, file)); err == nil {
				err = take(strings.TrimSpace(string(b)))
			}
		}
	}
	read("memory", "memory.usage_in_bytes", "memory.current",
		func(s string) error { return number(s, &u.MemoryBytes) })
	read("pids", "pids.current", "pids.current",
		func(s string) error { return number(s, &u.PIDs) })
	// Version 2 counts CPU time without any controller.
	if v2 := g.host.version2; v2 != "" && err == nil {
		var usec int64
		usec, err = field(filepath.Join(g.in(v2), "cpu.stat"), "usage_usec")
		u.CPU = time.Duration(usec) * time.Microsecond
	} else if v2 == "" {
		read("cpuacct", "cpuacct.usage", "", func(s string) (err error) {
			nsec, err := strconv.ParseInt(s, 10, 64)
			u.CPU = time.Duration(nsec)
			return err
		})
	}
	return u, err
}

// OOMKills returns how many processes the kernel killed because the group
// reached its limit of memory.
func (g *Group) OOMKills() (int, error) {
	if dir, ok := g.dir("memory", 2); ok {
		n, err := field(filepath.Join(dir, "memory.events"), "oom_kill")
		return int(n), err
	}
	if dir, ok := g.dir("memory", 1); ok {
		n, err := field(filepath.Join(dir, "memory.oom_control"), "oom_kill")
		return int(n), err
	}
	return 0, nil
}

// field reads one number from a file of lines "name number".
func field(path, name string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if n, value, _ := strings.Cut(strings.TrimSpace(line), " "); n == name {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, fmt.Errorf("%s: no %s", path, name)
}

// Kill kills everything in the group and waits until it is empty. A group that
// does not exist is empty.
func (g *Group) Kill(ctx context.Context) error {
	return g.poll(ctx, "empty", func() (done bool, err error) {
		pids, err := g.PIDs()
		if err != nil || len(pids) == 0 {
			return true, err
		}
		// One write kills them all, also those that are being forked.
		if v2 := g.host.version2; v2 != "" {
			err := write(filepath.Join(g.in(v2), "cgroup.kill"), "1")
			if err != nil && !gone(err) { // not there before Linux 5.14
				return true, err
			}
		}
		// Whoever is in another hierarchy only is not in that; nobody but its
		// members is in a group, so its numbers are of no other processes.
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return true, err
			}
		}
		return false, nil
	})
}

// Remove removes an empty group. One that does not exist is no error.
func (g *Group) Remove(ctx context.Context) error {
	return g.poll(ctx, "removed", func() (done bool, err error) {
		for _, h := range g.host.hierarchies() {
			err := os.Remove(g.in(h))
			if errors.Is(err, unix.EBUSY) {
				// Whoever has just ended is still counted for a moment; whoever
				// lives is not waited for.
				if pids, e := g.PIDs(); e != nil || len(pids) > 0 {
					return true, fmt.Errorf("remove control group: %w", errors.Join(err, e))
				}
				return false, nil
			}
			if err != nil && !gone(err) {
				return true, fmt.Errorf("remove control group: %w", err)
			}
			os.Remove(filepath.Join(h, parent)) // only if this was the last
		}
		return true, nil
	})
}

// poll repeats a step until it is done.
func (g *Group) poll(ctx context.Context, what string, step func() (done bool, err error)) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if done, err := step(); done {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for control group %s to be %s: %w", g.name, what, ctx.Err())
		}
	}
}
