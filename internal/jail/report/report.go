// Package report asks the kernel what a process is and has: its users,
// namespaces, capabilities, filters, mounts, descriptors and limits.
//
// report must not know what they should be. It has no state.
package report

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"bulkhead/internal/cgroup"

	"golang.org/x/sys/unix"
)

// Report is a process as the kernel reports it, not as it was asked for.
type Report struct {
	PID    int
	UIDs   []int // real, effective, saved, for the file system
	GIDs   []int
	Groups []int
	// Namespaces maps the name of each, "net", to whether it is the
	// process's own and not ours.
	Namespaces map[string]bool
	// Capabilities maps "effective", "permitted", "inheritable", "bounding"
	// and "ambient" to the set in hexadecimal digits.
	Capabilities map[string]string
	NoNewPrivs   bool
	// Seccomp is the mode, 2 for a filter, and Filters how many there are.
	Seccomp, Filters int
	// Dumpable is whether a process of the same user could trace it.
	Dumpable bool
	Mounts   []Mount
	// Descriptors maps each to what it is: "/m/disk", "socket".
	Descriptors map[int]string
	// FileBytes, OpenFiles, Processes and CoreBytes are its own limits.
	FileBytes, OpenFiles, Processes, CoreBytes uint64
	// Group is the limits of its control group, and InGroup whether it is
	// there and alone with what it started.
	Group   cgroup.Limits
	InGroup bool
	Usage   cgroup.Usage
}

// Mount is a part of what a process sees as the file system.
type Mount struct {
	Inside  string
	Options []string // "ro", "nosuid"
}

// Read asks the kernel about a process and its control group. The process may
// end and its number be used again meanwhile: the caller finds out.
func Read(pid int, group *cgroup.Group) (r Report, err error) {
	r.PID = pid
	for _, look := range []func(*Report) error{
		readStatus, readNamespaces, readMounts, readDescriptors, readLimits,
		func(r *Report) error { return readGroup(r, group) },
	} {
		if err := look(&r); err != nil {
			return Report{}, err
		}
	}
	return r, nil
}

func (r *Report) path(name string) string { return fmt.Sprintf("/proc/%d/%s", r.PID, name) }

// readStatus reads what proc(5) says of /proc/PID/status.
func readStatus(r *Report) error {
	b, err := os.ReadFile(r.path("status"))
	if err != nil {
		return err
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.TrimSpace(value)
	}
	numbers := func(name string) (list []int) {
		for _, f := range strings.Fields(fields[name]) {
			n, e := strconv.Atoi(f)
			err = errors.Join(err, e)
			list = append(list, n)
		}
		return list
	}
	one := func(name string) int {
		if list := numbers(name); len(list) == 1 {
			return list[0]
		}
		err = errors.Join(err, fmt.Errorf("%s: no %s", r.path("status"), name))
		return 0
	}
	r.UIDs, r.GIDs, r.Groups = numbers("Uid"), numbers("Gid"), numbers("Groups")
	r.NoNewPrivs, r.Seccomp, r.Filters = one("NoNewPrivs") == 1, one("Seccomp"), one("Seccomp_filters")
	r.Capabilities = map[string]string{
		"effective": fields["CapEff"], "permitted": fields["CapPrm"], "inheritable": fields["CapInh"],
		"bounding": fields["CapBnd"], "ambient": fields["CapAmb"],
	}
	if err != nil {
		return err
	}
	// Files that only the same user may read belong to root while the process
	// is not dumpable (proc(5)).
	var st unix.Stat_t
	if err := unix.Stat(r.path("fd"), &st); err != nil {
		return err
	}
	r.Dumpable = st.Uid != 0
	return nil
}

// Namespaces are those that a process can have of its own.
func Namespaces() []string { return []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} }

func readNamespaces(r *Report) error {
	r.Namespaces = map[string]bool{}
	for _, name := range Namespaces() {
		theirs, err := os.Readlink(r.path("ns/" + name))
		if err != nil {
			return err
		}
		ours, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			return err
		}
		r.Namespaces[name] = theirs != ours
	}
	return nil
}

// readMounts reads /proc/PID/mountinfo, as seen from the process's root. Spaces
// in paths are escaped there, and no path of a cage has any.
func readMounts(r *Report) error {
	f, err := os.Open(r.path("mountinfo"))
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 {
			return fmt.Errorf("%s: unknown form", f.Name())
		}
		r.Mounts = append(r.Mounts, Mount{fields[4], strings.Split(fields[5], ",")})
	}
	slices.SortFunc(r.Mounts, func(a, b Mount) int { return cmp.Compare(a.Inside, b.Inside) })
	return nil
}

func readDescriptors(r *Report) error {
	entries, err := os.ReadDir(r.path("fd"))
	if err != nil {
		return err
	}
	r.Descriptors = map[int]string{}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			return err
		}
		target, err := os.Readlink(r.path("fd/" + e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // closed meanwhile
		}
		if err != nil {
			return err
		}
		r.Descriptors[fd] = Plain(target)
	}
	return nil
}

// Plain drops what differs from one process to the next:
// "socket:[123]", "anon_inode:[eventfd]", "/memfd:log (deleted)".
func Plain(target string) string {
	kind, what, ok := strings.Cut(target, ":")
	switch {
	case !ok:
		return target
	case kind == "anon_inode":
		return strings.Trim(what, "[]")
	case kind == "/memfd":
		return "memory " + strings.TrimSuffix(what, " (deleted)")
	}
	return filepath.Base(kind)
}

// readLimits reads the hard limits from lines of /proc/PID/limits: "Max open
// files            64                   64                   files".
func readLimits(r *Report) error {
	b, err := os.ReadFile(r.path("limits"))
	if err != nil {
		return err
	}
	found := map[string]uint64{}
	for line := range strings.Lines(string(b)) {
		const name = 26 // columns, as proc_pid_limits prints them
		if len(line) < name {
			continue
		}
		fields := strings.Fields(line[name:])
		if len(fields) < 2 || fields[1] == "unlimited" {
			found[strings.TrimSpace(line[:name])] = math.MaxUint64
		} else if n, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
			found[strings.TrimSpace(line[:name])] = n
		}
	}
	for name, to := range map[string]*uint64{
		"Max file size": &r.FileBytes, "Max open files": &r.OpenFiles,
		"Max processes": &r.Processes, "Max core file size": &r.CoreBytes,
	} {
		n, ok := found[name]
		if !ok {
			return fmt.Errorf("%s: no %s", r.path("limits"), name)
		}
		*to = n
	}
	return nil
}

func readGroup(r *Report, group *cgroup.Group) (err error) {
	if r.Group, err = group.Limits(); err != nil {
		return err
	}
	if r.Usage, err = group.Usage(); err != nil {
		return err
	}
	pids, err := group.PIDs()
	r.InGroup = len(pids) == 1 && pids[0] == r.PID
	return err
}
