package leak

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// process is one process of the host at the moment of looking.
type process struct {
	pid, parent int
	// started is in clock ticks since boot; with pid it is unique.
	started string
	zombie  bool
	// args is the command line, "" for a zombie or kernel thread.
	args string
	// netns names its network namespace, groups its control groups, one per
	// hierarchy.
	netns  string
	groups []string
}

func processes() ([]process, error) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var ps []process
	for _, dir := range names {
		// A process may end while it is looked at: then it is none.
		if p, err := readProcess(dir); err == nil {
			ps = append(ps, p)
		}
	}
	return ps, nil
}

func readProcess(dir string) (p process, err error) {
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return p, err
	}
	// The name stands in parentheses and may contain anything; the fields
	// after it are numbered from 3 in proc(5): 4 is the parent, 22 the start.
	i := strings.LastIndexByte(string(stat), ')')
	fields := strings.Fields(string(stat[i+1:]))
	if len(fields) < 20 {
		return p, fmt.Errorf("%s/stat: %d fields", dir, len(fields))
	}
	p.zombie, p.started = fields[0] == "Z", fields[19]
	if p.pid, err = strconv.Atoi(filepath.Base(dir)); err != nil {
		return p, err
	}
	if p.parent, err = strconv.Atoi(fields[1]); err != nil {
		return p, err
	}
	args, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return p, err
	}
	p.args = strings.TrimSpace(strings.ReplaceAll(string(args), "\x00", " "))
	p.netns, _ = os.Readlink(dir + "/ns/net") // a zombie has none
	groups, err := os.ReadFile(dir + "/cgroup")
	for line := range strings.Lines(string(groups)) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 {
			p.groups = append(p.groups, parts[2])
		}
	}
	return p, err
}

// own keeps the processes below this one, and those whose command line has
// one of dirs in it.
func own(procs []process, dirs []string) []process {
	parents := map[int]int{}
	for _, p := range procs {
		parents[p.pid] = p.parent
	}
	below := func(pid int) bool {
		for pid > 1 && pid != os.Getpid() {
			pid = parents[pid]
		}
		return pid == os.Getpid()
	}
	return slices.DeleteFunc(slices.Clone(procs), func(p process) bool {
		return p.pid == os.Getpid() || !below(p.pid) && !containsAny(p.args, dirs)
	})
}

func descendants(found things, procs []process, dirs []string) {
	for _, p := range own(procs, dirs) {
		// A zombie further down is its parent's business.
		if p.zombie && p.parent == os.Getpid() {
			found.add(": nobody waited for it", "process %d, started at %s", p.pid, p.started)
		} else if !p.zombie {
			found.add(": "+p.args, "process %d, started at %s", p.pid, p.started)
		}
	}
}

// foreign returns the processes that are not own.
func foreign(procs []process, dirs []string) []process {
	ours := map[int]bool{os.Getpid(): true}
	for _, p := range own(procs, dirs) {
		ours[p.pid] = true
	}
	return slices.DeleteFunc(slices.Clone(procs), func(p process) bool { return ours[p.pid] || p.zombie })
}

// unescape undoes the kernel's escapes of space, tab, newline and backslash.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func mounts(found things, _ []process, dirs []string) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(table)) {
		// proc(5): id, parent, device, root, mount point, …, -, type, source.
		fields := strings.Fields(line)
		left, right := fields, []string{"?", "?"}
		if i := slices.Index(fields, "-"); i >= 5 && i+2 < len(fields) {
			left, right = fields[:i], fields[i+1:]
		}
		if at := unescape.Replace(left[4]); within(at, dirs) || isLoopOf(right[1], dirs) {
			found.add(fmt.Sprintf(" (%s on %s)", right[0], right[1]), "mount %s on %s", left[0], at)
		}
	}
	return nil
}

// isLoopOf reports whether a device is a loop device on a file within dirs.
func isLoopOf(device string, dirs []string) bool {
	name, ok := strings.CutPrefix(device, "/dev/loop")
	return ok && within(backingFile("/sys/block/loop"+name), dirs)
}

func backingFile(block string) string {
	b, err := os.ReadFile(block + "/loop/backing_file")
	if err != nil {
		return "" // not in use
	}
	return strings.TrimSuffix(strings.TrimSpace(string(b)), " (deleted)")
}

func loops(found things, _ []process, dirs []string) error {
	blocks, err := filepath.Glob("/sys/block/loop*")
	for _, block := range blocks {
		if file := backingFile(block); within(file, dirs) {
			found.add("", "loop device /dev/%s on %s", filepath.Base(block), file)
		}
	}
	return err
}

const leaseFolder = "/run/bulkhead/uids/"

// leaseOf returns the folder that a cage (package jail) is for, by the number of
// its user, until it is released.
func leaseOf(uid string) (dir string, known bool) {
	b, err := os.ReadFile(leaseFolder + uid)
	var lease struct{ Dir string }
	return lease.Dir, err == nil && json.Unmarshal(b, &lease) == nil
}

// leases adds the cages of what was started for one of dirs.
func leases(found things, _ []process, dirs []string) error {
	files, err := filepath.Glob(leaseFolder + "[0-9]*")
	for _, file := range files {
		uid := filepath.Base(file)
		if dir, known := leaseOf(uid); known && within(dir, dirs) {
			found.add("", "cage of user %s for %s", uid, dir)
		}
	}
	return err
}

// foreignCage reports whether a control group is one of a cage that was made for
// somebody else: it is there before anything runs in it, and a while after.
func foreignCage(group string, dirs []string) bool {
	uid, ok := strings.CutPrefix(filepath.Base(group), "u")
	if !ok || strings.Trim(uid, "0123456789") != "" {
		return false
	}
	dir, known := leaseOf(uid)
	return known && !within(dir, dirs)
}

// controlGroups adds groups with the product's name that nobody else is in.
func controlGroups(found things, procs []process, dirs []string) error {
	used := map[string]bool{}
	for _, p := range foreign(procs, dirs) {
		for _, g := range p.groups {
			for ; len(g) > 1; g = filepath.Dir(g) {
				used[g] = true
			}
		}
	}
	const top = "/sys/fs/cgroup"
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		// The one above all cages comes and goes with the cages of all daemons.
		if err != nil || !d.IsDir() || !strings.Contains(path, "bulkhead") || d.Name() == "bulkhead" {
			return err
		}
		// With cgroup v1 the first folder names the hierarchy.
		inner := strings.TrimPrefix(path, top)
		_, group, ok := strings.Cut(inner[1:], "/")
		if !used[inner] && !(ok && used["/"+group]) && !foreignCage(path, dirs) {
			found.add("", "control group %s", path)
		}
		return nil
	})
}

// namespaces adds the named network namespaces that nobody else is in.
func namespaces(found things, procs []process, dirs []string) error {
	used := map[string]bool{}
	for _, p := range foreign(procs, dirs) {
		used[p.netns] = true
	}
	names, err := filepath.Glob("/run/netns/*")
	for _, name := range names {
		var info syscall.Stat_t
		if err := syscall.Stat(name, &info); err == nil && !used[fmt.Sprintf("net:[%d]", info.Ino)] {
			found.add("", "network namespace %s", name)
		}
	}
	return err
}

// taps adds the tap devices of this network namespace that no process holds
// open: the kernel reports no carrier for those.
func taps(found things, _ []process, _ []string) error {
	names, err := filepath.Glob("/sys/class/net/*/tun_flags")
	for _, name := range names {
		dev := filepath.Dir(name)
		if carrier, err := os.ReadFile(dev + "/carrier"); err != nil || strings.TrimSpace(string(carrier)) != "1" {
			found.add("", "tap device %s", filepath.Base(dev))
		}
	}
	return err
}
