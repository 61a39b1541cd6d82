package jail

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"bulkhead/internal/jail/report"
)

// Inspect asks the kernel about the program. os.ErrProcessDone if it has ended.
func (p *Process) Inspect() (report.Report, error) {
	r, err := report.Read(p.record.PID, p.holding.group)
	if ticks, gone := startTicks(p.record.PID); gone != nil || ticks != p.Ticks {
		return report.Report{}, os.ErrProcessDone // what was read may be another's
	}
	return r, err
}

// Difference is something that is not as a cage must be.
type Difference struct {
	What, Want, Got string
}

// Verify compares what the kernel reports with what a cage must be, and lists
// every difference. filters is how many filters the program has at least: one
// of ours, and those that it adds itself.
func (p *Process) Verify(r report.Report, filters int) []Difference {
	d := differences{}
	d.want("user", fmt.Sprint(slices.Repeat([]int{p.UID}, 4)), r.UIDs)
	d.want("group", fmt.Sprint(slices.Repeat([]int{p.UID}, 4)), r.GIDs)
	d.want("further groups", "[]", r.Groups)
	for _, name := range slices.Sorted(maps.Keys(r.Namespaces)) {
		d.want(name+" namespace of its own", "true", r.Namespaces[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Capabilities)) {
		d.want(name+" capabilities", "none", orNone(strings.Trim(r.Capabilities[name], "0")))
	}
	d.want("no new privileges", "true", r.NoNewPrivs)
	d.want("seccomp mode", "2", r.Seccomp)
	if r.Filters < filters {
		d.want("seccomp filters", fmt.Sprintf("at least %d", filters), r.Filters)
	}
	d.want("dumpable", "false", r.Dumpable)
	p.verifyLimits(&d, r)
	p.verifySight(&d, r)
	return d.list
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func (p *Process) verifyLimits(d *differences, r report.Report) {
	l := p.Limits
	d.want("largest file", fmt.Sprint(l.FileBytes), r.FileBytes)
	d.want("open files", fmt.Sprint(l.OpenFiles), r.OpenFiles)
	d.want("processes of the user", fmt.Sprint(l.Group.PIDs), r.Processes)
	d.want("core dump", "0", r.CoreBytes)
	d.want("alone in its control group", "true", r.InGroup)
	d.want("memory of the group", fmt.Sprint(l.Group.MemoryBytes), r.Group.MemoryBytes)
	d.want("processes of the group", fmt.Sprint(l.Group.PIDs), r.Group.PIDs)
	d.want("CPUs of the group", fmt.Sprintf("%.2f", l.Group.CPUQuota), fmt.Sprintf("%.2f", r.Group.CPUQuota))
}

// verifySight checks what the program sees of the host: its mounts, and what
// it has open.
func (p *Process) verifySight(d *differences, r report.Report) {
	want := map[string]bool{"/": false} // path inside, writable
	for _, f := range p.Files {
		want[f.Inside] = f.Writable
	}
	for _, path := range p.Devices {
		want[path] = true
	}
	for _, m := range r.Mounts {
		writable, ok := want[m.Inside]
		delete(want, m.Inside)
		if !ok {
			d.want("mount "+m.Inside, "none", strings.Join(m.Options, ","))
			continue
		}
		d.want("mount "+m.Inside+" writable", fmt.Sprint(writable), slices.Contains(m.Options, "rw"))
		d.want("mount "+m.Inside+" nosuid", "true", slices.Contains(m.Options, "nosuid"))
		if !slices.Contains(p.Devices, m.Inside) {
			d.want("mount "+m.Inside+" nodev", "true", slices.Contains(m.Options, "nodev"))
		}
		if m.Inside != "/" {
			d.want("mount "+m.Inside+" noexec", "true", slices.Contains(m.Options, "noexec"))
		}
	}
	for _, inside := range slices.Sorted(maps.Keys(want)) {
		d.want("mount "+inside, "there", "missing")
	}
	for i, what := range p.Inherited {
		d.want(fmt.Sprintf("descriptor %d", 3+i), what, r.Descriptors[3+i])
	}
	for _, fd := range slices.Sorted(maps.Keys(r.Descriptors)) {
		if what := r.Descriptors[fd]; !p.mayHold(what) {
			d.want(fmt.Sprintf("descriptor %d", fd), "none of the host's", what)
		}
	}
}

// mayHold says whether a program may have something open: the files and
// devices of its cage, what it was handed, its log, what it makes itself, and sockets, which it
// only has from us: there are none of its own in its network and none to
// reach by a path. Descriptor 0 is the host's empty device.
func (p *Process) mayHold(what string) bool {
	switch what {
	case "/dev/null", "memory " + logName, "socket", "eventfd", "eventpoll", "signalfd", "timerfd":
		return true
	}
	return strings.HasPrefix(what, "kvm-") || slices.Contains(p.Inherited, what) || slices.Contains(p.Devices, what) ||
		slices.ContainsFunc(p.Files, func(f File) bool { return f.Inside == what })
}

type differences struct{ list []Difference }

func (d *differences) want(what, want string, got any) {
	if g := fmt.Sprint(got); g != want {
		d.list = append(d.list, Difference{what, want, g})
	}
}
