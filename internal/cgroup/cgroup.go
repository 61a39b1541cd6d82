// Package cgroup makes one control group per program that must not take more
// of the host than it was given, on hosts with version 1, version 2 or both.
//
// A group is a folder "bulkhead/NAME" in every hierarchy that matters. It is
// found by its name alone, so whoever knows the name can end and remove what
// an earlier process made.
//
// cgroup must not know what runs in a group. A Host and a Group have no state
// but paths and are safe for concurrent use; two must not create or remove
// the same name at the same time.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// parent holds all groups of ours. Together they weigh parentWeight on a busy
// host, where any other group beside it has 100: up to eight of them have each
// what a service has. With 100 for all, every machine would starve together
// behind one compiler.
const (
	parent       = "bulkhead"
	parentWeight = 800
)

// Host is what a host has of control groups.
type Host struct {
	// version1 maps controllers of version 1 to their hierarchies.
	version1 map[string]string
	// version2 is the hierarchy of version 2, "" if there is none, and
	// unified its controllers.
	version2 string
	unified  []string
}

// Limits bound what the processes of a group take together. 0 is no limit.
type Limits struct {
	// MemoryBytes includes the page cache of the files that they use. There is
	// no swap on top of it.
	MemoryBytes int64
	// CPUWeight, 1 to 10000, is the share of a busy host; others have 100.
	CPUWeight int
	// CPUQuota is how many CPUs they use at most.
	CPUQuota float64
	// PIDs is how many processes and threads there are at most.
	PIDs int
	// IOWeight, 1 to 10000, is the share of a busy disk, where the host has
	// a scheduler for that.
	IOWeight int
}

// Has says whether the host has a controller: "memory", "cpu", "pids", or
// "io", which is called blkio in version 1.
func (h *Host) Has(controller string) bool {
	_, old := h.version1[oldName(controller)]
	return old || slices.Contains(h.unified, controller)
}

func oldName(controller string) string {
	if controller == "io" {
		return "blkio"
	}
	return controller
}

// Missing lists what a group needs and the host does not have.
func (h *Host) Missing() (controllers []string) {
	for _, c := range []string{"memory", "cpu", "pids"} {
		if !h.Has(c) {
			controllers = append(controllers, c)
		}
	}
	return controllers
}

// List names the groups that there are.
func (h *Host) List() ([]string, error) {
	names := map[string]bool{}
	for _, dir := range h.hierarchies() {
		entries, err := os.ReadDir(filepath.Join(dir, parent))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() && valid(e.Name()) {
				names[e.Name()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// hierarchies lists those that a group is in. Version 2 is among them even if
// it has no controller: it can kill a whole group at once, and counts CPU time,
// for which version 1 needs cpuacct.
func (h *Host) hierarchies() []string {
	dirs := map[string]bool{}
	controllers := []string{"memory", "cpu", "pids", "blkio"}
	if h.version2 == "" {
		controllers = append(controllers, "cpuacct")
	}
	for _, c := range controllers {
		if dir, ok := h.version1[c]; ok {
			dirs[dir] = true
		}
	}
	if h.version2 != "" {
		dirs[h.version2] = true
	}
	return slices.Sorted(maps.Keys(dirs))
}

// valid says whether a name can be that of a group.
func valid(name string) bool { return regexp.MustCompile(`^[a-z0-9-]{1,64}$`).MatchString(name) }

// Open returns the group of that name, whether it exists or not. Whatever is
// done with one whose name Create would refuse is an error.
func (h *Host) Open(name string) *Group { return &Group{host: h, name: name} }

// Create makes a group with limits, as far as the host has the controllers.
// The name is of 1 to 64 characters of a-z, 0-9 and "-". It is fs.ErrExist if
// there is one of that name in any hierarchy. On error nothing new is left.
func (h *Host) Create(name string, l Limits) (g *Group, err error) {
	if !valid(name) {
		return nil, fmt.Errorf("%q cannot name a control group", name)
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	g = h.Open(name)
	var made []string
	defer func() {
		if err != nil {
			err = errors.Join(err, h.unmake(made))
		}
	}()
	for _, dir := range h.hierarchies() {
		if err := h.make(dir, name); err != nil {
			return nil, fmt.Errorf("make control group: %w", err)
		}
		made = append(made, g.in(dir))
	}
	if err := g.setLimits(l); err != nil {
		return nil, fmt.Errorf("limit control group %s: %w", name, err)
	}
	return g, nil
}

// unmake removes folders that nobody has been in, so none is busy.
func (h *Host) unmake(made []string) (err error) {
	for _, dir := range made {
		err = errors.Join(err, os.Remove(dir))
	}
	for _, dir := range h.hierarchies() {
		os.Remove(filepath.Join(dir, parent)) // only if no other is in it
	}
	return err
}

// make makes a group in one hierarchy. Whoever removes the last group removes
// our parent too, which may be between our two steps.
func (h *Host) make(hierarchy, name string) (err error) {
	for range 100 {
		dir := filepath.Join(hierarchy, parent)
		if err = os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		err = nil
		if hierarchy == h.version2 {
			err = h.delegate()
		}
		if err == nil {
			err = h.weighParent(hierarchy)
		}
		if err == nil {
			err = os.Mkdir(filepath.Join(dir, name), 0o755)
		}
		if !gone(err) {
			return err
		}
	}
	return err
}

// weighParent gives all groups together their share of the CPUs.
func (h *Host) weighParent(hierarchy string) error {
	dir := filepath.Join(hierarchy, parent)
	switch {
	case hierarchy == h.version1["cpu"]:
		return write(filepath.Join(dir, "cpu.shares"), shares(Limits{CPUWeight: parentWeight}))
	case hierarchy == h.version2 && slices.Contains(h.unified, "cpu"):
		return write(filepath.Join(dir, "cpu.weight"), strconv.Itoa(parentWeight))
	}
	return nil
}

// delegate has groups of version 2 get the controllers. They are named one by
// one: some may be there that cannot be delegated.
func (h *Host) delegate() error {
	for _, dir := range []string{h.version2, filepath.Join(h.version2, parent)} {
		for _, c := range []string{"memory", "cpu", "pids", "io"} {
			if !slices.Contains(h.unified, c) {
				continue
			}
			if err := write(filepath.Join(dir, "cgroup.subtree_control"), "+"+c); err != nil {
				return fmt.Errorf("delegate %s: %w", c, err)
			}
		}
	}
	return nil
}

// write writes to a file of the kernel's, which is there already.
func write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
