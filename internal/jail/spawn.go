package jail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"bulkhead/internal/jail/report"
	"bulkhead/internal/jail/seccomp"

	"golang.org/x/sys/unix"
)

// releaseLimit bounds the release of a cage, which waits for nobody but the
// kernel.
const releaseLimit = 30 * time.Second

// plan is what a child is told: all that it has to do to itself.
type plan struct {
	Hostname string
	// Root and Files are descriptors of mounts that are nowhere yet.
	Root  int
	Files []mount
	// Inherit is how many descriptors the program gets after the first three.
	Inherit int
	Limits  []limit
	Filter  []seccomp.Op
	Path    string
	Args    []string
	// UID is set if the child is still root, for lack of user namespaces.
	UID int
}

type mount struct {
	FD     int
	Inside string
}

type limit struct {
	Resource int
	Most     uint64
}

// spawn starts the child, and returns when it is the program.
func (j *Jail) spawn(ctx context.Context, c Cage, h *holding, root string) (p *Process, err error) {
	filter, err := c.Syscalls.Compile()
	if err != nil {
		return nil, fmt.Errorf("compile list of system calls: %w", err)
	}
	if c.Unfiltered || j.lacks(seccompFilters) {
		filter = nil
	}
	t, err := openTrees(c, h.UID, root)
	if err != nil {
		return nil, err
	}
	defer t.close()
	log, err := newLog()
	if err != nil {
		return nil, err
	}
	inherited, err := inherited(c)
	if err != nil {
		return nil, err
	}
	l, err := j.launch(c, h, t, log)
	if err != nil {
		log.Close()
		return nil, err
	}
	defer l.close()
	p = &Process{
		record: record{
			identity: l.identity, UID: h.UID, Root: root,
			Files: c.Files, Devices: c.Program.Devices, Inherited: inherited, Limits: c.Limits,
		},
		jail: j, holding: h, pidfd: l.pidfd, log: log, child: l.cmd, done: make(chan struct{}),
	}
	j.hold(p)
	if err := p.lockIn(ctx, c, l, t.plan(c, filter, j.uidToBecome(h.UID))); err != nil {
		kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseLimit)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("start %s in a cage: %w", c.Program.Path, err), p.Kill(kill))
	}
	return p, nil
}

// inherited says what a program is handed.
func inherited(c Cage) (all []string, err error) {
	for _, f := range c.Inherit {
		target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err != nil {
			return nil, err
		}
		all = append(all, report.Plain(target))
	}
	return all, nil
}

// lockIn takes a child that waits to the program that it becomes.
func (p *Process) lockIn(ctx context.Context, c Cage, l *launched, plan plan) error {
	if err := p.holding.group.Add(p.record.PID); err != nil {
		return fmt.Errorf("add to control group: %w", err)
	}
	if err := p.record.write(c.Dir); err != nil {
		return err
	}
	if err := json.NewEncoder(l.control).Encode(plan); err != nil {
		return fmt.Errorf("tell plan: %w", err)
	}
	l.control.Close()
	stop := context.AfterFunc(ctx, func() { l.status.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	// The pipe ends without a word when the child has become the program.
	words, err := io.ReadAll(io.LimitReader(l.status, 4<<10))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	case len(words) > 0:
		return errors.New(string(words))
	}
	return nil
}

// launched is a child that waits for its plan. If we end, it ends.
type launched struct {
	identity
	cmd             *exec.Cmd
	pidfd           *os.File
	control, status *os.File // our ends
}

func (l *launched) close() {
	l.control.Close()
	l.status.Close()
}

func (j *Jail) launch(c Cage, h *holding, t *trees, log *os.File) (*launched, error) {
	folder, err := h.group.Folder()
	if err != nil {
		return nil, err
	}
	defer folder.Close() // of none it is no use and no harm
	controlR, control, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer controlR.Close()
	status, statusW, err := os.Pipe()
	if err != nil {
		control.Close()
		return nil, err
	}
	defer statusW.Close()
	var pidfd int
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{childName, strconv.Itoa(len(c.Inherit))},
		Env: []string{"GOMAXPROCS=1"}, Stdout: log, Stderr: log,
		ExtraFiles:  append(append(append([]*os.File{}, c.Inherit...), controlR, statusW), t.files...),
		SysProcAttr: j.attributes(h.UID),
	}
	cmd.SysProcAttr.PidFD = &pidfd
	if folder != nil { // whoever finds the lease of a daemon that dies now finds the child
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(folder.Fd())
	}
	if err := cmd.Start(); err != nil {
		control.Close()
		status.Close()
		return nil, fmt.Errorf("start in new namespaces: %w", err)
	}
	ticks, err := startTicks(cmd.Process.Pid)
	if err != nil { // it has ended already; waiting for it tells how
		ticks = 0
	}
	return &launched{
		identity: identity{cmd.Process.Pid, ticks}, cmd: cmd,
		pidfd: os.NewFile(uintptr(pidfd), "pidfd"), control: control, status: status,
	}, nil
}

// attributes has a child start in namespaces of its own, as its user already.
// It keeps what it needs to lock itself in until it has.
func (j *Jail) attributes(uid int) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
	}
	if j.uidToBecome(uid) != 0 {
		return a
	}
	one := []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
	a.Cloneflags |= unix.CLONE_NEWUSER
	a.UidMappings, a.GidMappings, a.GidMappingsEnableSetgroups = one, one, true
	a.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	a.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}
	return a
}

// uidToBecome is 0 if a user namespace makes a child its user from the start,
// else, on a host without them, the user that it has to become.
func (j *Jail) uidToBecome(uid int) int {
	if j.lacks(userNamespaces) {
		return uid
	}
	return 0
}

// trees are mounts that are nowhere, made by us because a child cannot reach
// what they show.
type trees struct {
	files []*os.File // the root, devices, then Cage.Files
	paths []string   // inside, of each
}

// openTrees opens what c sees. Each mount is as narrow as its use.
func openTrees(c Cage, uid int, root string) (*trees, error) {
	t := &trees{}
	if err := t.addAll(c, uid, root); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *trees) addAll(c Cage, uid int, root string) error {
	const inert = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	if err := t.add(root, "/", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_RDONLY); err != nil {
		return err
	}
	for _, path := range c.Program.Devices {
		if err := t.add(root+path, path, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC); err != nil {
			return err
		}
	}
	for _, f := range c.Files {
		attr := uint64(inert)
		give := func() error { return own(f.Host, uid) }
		if !f.Writable {
			attr |= unix.MOUNT_ATTR_RDONLY
			give = func() error { return show(f.Host) }
		}
		if err := give(); err != nil {
			return err
		}
		if err := t.add(f.Host, f.Inside, attr); err != nil {
			return err
		}
	}
	return nil
}

// add opens a mount of path alone, which no other mount is changed with.
func (t *trees) add(path, inside string, attr uint64) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path,
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	t.files = append(t.files, os.NewFile(uintptr(fd), path))
	t.paths = append(t.paths, inside)
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
		Attr_set: attr, Attr_clr: unix.MOUNT_ATTR_NODEV &^ attr, Propagation: unix.MS_PRIVATE,
	})
	if err != nil {
		return &os.PathError{Op: "mount_setattr", Path: path, Err: err}
	}
	return nil
}

func (t *trees) close() {
	for _, f := range t.files {
		f.Close()
	}
}

func (t *trees) plan(c Cage, filter []seccomp.Op, uid int) plan {
	first := 3 + len(c.Inherit) + 2 // after the standard ones and the two pipes
	p := plan{
		Hostname: c.Name, Root: first, Inherit: len(c.Inherit), Filter: filter,
		Path: c.Program.Path, Args: append([]string{c.Program.Path}, c.Args...), UID: uid,
		Limits: []limit{
			{unix.RLIMIT_NOFILE, uint64(c.Limits.OpenFiles)},
			{unix.RLIMIT_FSIZE, uint64(c.Limits.FileBytes)},
			{unix.RLIMIT_NPROC, uint64(c.Limits.Group.PIDs)},
			{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_MEMLOCK, 0}, {unix.RLIMIT_MSGQUEUE, 0},
			{unix.RLIMIT_SIGPENDING, 64}, {unix.RLIMIT_RTPRIO, 0}, {unix.RLIMIT_NICE, 0},
		},
	}
	for i, inside := range t.paths[1:] {
		p.Files = append(p.Files, mount{first + 1 + i, inside})
	}
	return p
}
