// Package jail runs a program as nobody, nowhere, with almost no system calls.
// Whoever takes over such a program holds nothing: an unprivileged user that
// no other program has, namespaces of its own, a root in which only its own
// files can be written, no capability, a list of system calls, and limits.
//
//	Start   lease a uid, make a control group, give the files
//	        ──► a child of ours in new namespaces, which waits
//	        ──► in its group, recorded, told its cage
//	        ──► it locks itself in and becomes the program
//	the end the files are taken back, the group and the lease removed
//
// A cage is data; jail must not know what the program does. The record in
// Cage.Dir finds a program again that an earlier process of ours started. A
// Jail is safe for concurrent use.
package jail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"bulkhead/internal/cgroup"
	"bulkhead/internal/fault"
	"bulkhead/internal/jail/report"
	"bulkhead/internal/jail/root"
	"bulkhead/internal/jail/seccomp"
	"bulkhead/internal/unwind"
)

// Config says where the jail keeps what it needs.
type Config struct {
	// Dir holds the roots that programs run on.
	Dir string
	// Leases is the folder of the uids in use. All daemons of a host that
	// share a range share it, and it does not outlive the host's boot.
	Leases string
	// FirstUID and UIDs are the range of users, which must be nobody else's.
	FirstUID, UIDs int
	// Degraded starts programs although the host lacks a feature, without it.
	Degraded bool
	Log      *slog.Logger
}

// DefaultLeases is where all daemons of a host keep their leases.
const DefaultLeases = "/run/bulkhead/uids"

// Cage is what one program may have and do.
type Cage struct {
	// Name is the host's name inside: letters, digits and dashes.
	Name string
	// Dir is an existing folder for the record, of this cage alone.
	Dir     string
	Program root.Program
	// Args follow the program's path.
	Args []string
	// Files are single regular files of the host's, each at a path inside.
	// They belong to the program's user while it runs if it may write them.
	Files []File
	// Inherit become descriptors 3, 4 and so on. Start does not close them.
	Inherit []*os.File
	Limits  Limits
	// Syscalls are those that do not end the program. Unfiltered leaves that
	// wall out, to try those behind it.
	Syscalls   seccomp.List
	Unfiltered bool
}

// File is a file of the host's that is seen inside. One that is not writable
// becomes readable for everybody on the host who can reach it.
type File struct {
	Host, Inside string
	Writable     bool
}

// Limits bound what a program takes from the host.
type Limits struct {
	// Group is enforced for all that runs in the cage together.
	Group cgroup.Limits
	// FileBytes is the largest file that it can write, OpenFiles how many it
	// can hold open.
	FileBytes int64
	OpenFiles int
}

// Jail starts programs in cages.
type Jail struct {
	cfg     Config
	roots   *root.Store
	groups  *cgroup.Host
	missing func() []Missing

	mu sync.Mutex
	// held maps folders of records to what we hold of their programs, until
	// their cages are released; guarded by mu.
	held map[string]*Process
}

// New returns a jail. It changes nothing on the host.
func New(cfg Config) (*Jail, error) {
	groups, err := cgroup.Detect()
	if err != nil {
		return nil, fmt.Errorf("find control groups: %w", err)
	}
	return &Jail{
		cfg: cfg, roots: &root.Store{Dir: cfg.Dir}, groups: groups, held: map[string]*Process{},
		missing: sync.OnceValue(func() []Missing { return lacks(groups) }),
	}, nil
}

// Start starts a program in a cage and returns once it is the program. Where
// the host lacks a feature it is fault.Unsupported, unless the jail is
// degraded. On error nothing is left.
func (j *Jail) Start(ctx context.Context, c Cage) (p *Process, err error) {
	if err := j.fit(); err != nil {
		return nil, err
	}
	var undo unwind.Stack
	defer undo.OnError(ctx, &err)
	var places []string
	for _, f := range c.Files {
		places = append(places, f.Inside)
	}
	dir, err := j.roots.For(ctx, c.Program, places)
	if err != nil {
		return nil, fmt.Errorf("make root for %s: %w", c.Program.Path, err)
	}
	h, err := j.lease(c)
	if err != nil {
		return nil, err
	}
	undo.Add("release cage", h.release)
	// Whoever has the lease has the group: one that is there is a remainder.
	if err := h.group.Remove(ctx); err != nil {
		return nil, err
	}
	if _, err := j.groups.Create(groupName(h.UID), c.Limits.Group); err != nil {
		return nil, err
	}
	if p, err = j.spawn(ctx, c, h, dir); err != nil {
		return nil, err
	}
	undo.Release() // from here on its end releases the cage
	return p, nil
}

// fit refuses a host on which a cage would have a hole.
func (j *Jail) fit() error {
	missing := j.Missing()
	if len(missing) == 0 || j.cfg.Degraded {
		return nil
	}
	m := missing[0]
	return fault.New(fault.Unsupported, "this host cannot jail: no %s", m.Feature).
		Hint("%s; or accept weaker walls with --jail=degraded", m.Mend)
}

// Missing is a feature that the host lacks.
type Missing struct {
	// Feature is its name, Mend how to get it.
	Feature, Mend string
}

// Missing lists what this host lacks for a whole cage.
func (j *Jail) Missing() []Missing { return j.missing() }

func lacks(groups *cgroup.Host) (all []Missing) {
	for _, c := range groups.Missing() {
		all = append(all, Missing{
			"control group controller " + c,
			"boot the host with cgroup_enable=" + c + ", or mount the controller",
		})
	}
	for _, ns := range report.Namespaces() {
		if _, err := os.Stat(filepath.Join("/proc/self/ns", ns)); err != nil {
			all = append(all, Missing{ns + " namespaces", "use a kernel with them"})
		}
	}
	if b, err := os.ReadFile("/proc/sys/user/max_user_namespaces"); err == nil && string(b) == "0\n" {
		all = append(all, Missing{userNamespaces, "sysctl user.max_user_namespaces=10000"})
	}
	if _, err := os.Stat("/proc/sys/kernel/seccomp/actions_avail"); err != nil {
		all = append(all, Missing{seccompFilters, "use a kernel with CONFIG_SECCOMP_FILTER"})
	}
	return all
}

// The features that a degraded jail can go without, besides controllers.
const (
	userNamespaces = "user namespaces"
	seccompFilters = "seccomp filters"
)

// Degraded says what the cages of this jail go without.
func (j *Jail) Degraded() []Missing {
	if !j.cfg.Degraded {
		return nil
	}
	return j.Missing()
}

func (j *Jail) lacks(feature string) bool {
	return slices.ContainsFunc(j.Degraded(), func(m Missing) bool { return m.Feature == feature })
}

// Find returns the program that runs with its record in dir. If it has ended,
// what is left of its cage is released and the error is os.ErrProcessDone.
func (j *Jail) Find(ctx context.Context, dir string) (*Process, error) {
	if p := j.holds(dir); p != nil {
		if ticks, err := startTicks(p.record.PID); err == nil && ticks == p.Ticks {
			return p, nil
		}
		select {
		case <-p.done:
			return nil, errors.Join(os.ErrProcessDone, p.end.Released)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r, err := readRecord(dir)
	if err == nil {
		var p *Process
		if p, err = j.open(r, dir); err == nil {
			return p, nil
		}
	}
	if !errors.Is(err, os.ErrProcessDone) {
		return nil, err
	}
	if err := j.releaseOf(ctx, dir); err != nil {
		return nil, err
	}
	return nil, os.ErrProcessDone
}

// Reap ends whatever runs with its record in dir and releases its cage.
// Finding nothing is no error.
func (j *Jail) Reap(ctx context.Context, dir string) error {
	p, err := j.Find(ctx, dir)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.Kill(ctx)
}

// holds returns the program of dir if it is held already: there is never more
// than one that would release its cage.
func (j *Jail) holds(dir string) *Process {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.held[dir]
}

// hold has p waited for.
func (j *Jail) hold(p *Process) {
	j.mu.Lock()
	j.held[p.holding.Dir] = p
	j.mu.Unlock()
	go func() {
		p.wait()
		j.mu.Lock()
		delete(j.held, p.holding.Dir)
		j.mu.Unlock()
		close(p.done)
	}()
}
