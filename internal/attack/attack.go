// Package attack tries to get out of a cage, as whoever took over a VMM would.
//
// Each attempt runs three times, in a process of its own: free, as root on the
// host, where it has to work, or it would prove nothing; in a cage without the
// filter of system calls, which shows the wall behind it; and in the whole
// cage, where it must be stopped by the wall that is expected. Nothing that an
// attempt does to the host outlives its process or matters to anybody else:
// what it aims at is made for the battery, and nothing is sent to the network.
//
// attack must not know what else runs in cages. It has no state.
package attack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"bulkhead/internal/jail"
	"bulkhead/internal/jail/root"
	"bulkhead/internal/jail/seccomp"

	"golang.org/x/sys/unix"
)

// Options say what the walls are that are tried.
type Options struct {
	// Jail and Cage are those of a VMM; the cage's program is replaced.
	Jail *jail.Jail
	Cage jail.Cage
	// Dir is an empty folder for what the attempts aim at.
	Dir string
	// Victim is a VMM that runs, if the attempts in the cage are to aim at it.
	Victim *Victim
}

// Victim is another sandbox's VMM.
type Victim struct {
	PID int
	// Memory is its memory's file, Socket its control socket.
	Memory, Socket string
}

// Finding is how one attempt went.
type Finding struct {
	Attempt string
	// Expected is the wall that must stop it, Got the one that did.
	Expected, Got string
	// Unfiltered is the wall that stops it without the filter of system calls;
	// "" if none does.
	Unfiltered string
	// Useless is set if the attempt does not work on this host even for its
	// root, so that it shows nothing.
	Useless string
	// Holds is whether the attempt was stopped as expected.
	Holds bool
}

// Run makes every attempt. The error is about the battery itself: whether the
// walls hold is in the findings. report is called after each.
func Run(ctx context.Context, o Options, report func(Finding)) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	free, err := newDecoys(o.Dir)
	if err != nil {
		return fmt.Errorf("make what is attacked: %w", err)
	}
	defer free.close()
	b := battery{o, exe, free.target, free.inCage(o)}
	for _, a := range attempts() {
		f, err := b.make(ctx, a)
		if err != nil {
			return fmt.Errorf("attempt %q: %w", a.name, err)
		}
		report(f)
	}
	return nil
}

// attempt is one thing that is tried.
type attempt struct {
	name string
	// wall is what has to stop it: see result.
	wall string
	// try returns nil if it has worked. It runs in a process of its own.
	try func(target) error
}

// target is what attempts aim at.
type target struct {
	// Secret is a file that only root may read, Other another sandbox's
	// memory, Folder the state of the daemon.
	Secret, Other, Folder string
	// Socket is the daemon's, Abstract one without a file.
	Socket, Abstract string
	// PID is a process of the host's.
	PID int
	// Port is one at which the host listens on its loopback.
	Port int
	// Scratch is a folder to make things in, File a file to write to.
	Scratch, File string
}

// battery is one run.
type battery struct {
	Options
	exe          string
	free, inCage target
}

func (b *battery) make(ctx context.Context, a attempt) (Finding, error) {
	f := Finding{Attempt: a.name, Expected: a.wall}
	free, err := b.runFree(ctx, a)
	if err != nil {
		return f, err
	}
	if free != worked {
		f.Useless = "root cannot do it here either: " + free
	}
	for _, filter := range []bool{false, true} {
		got, err := b.runCaged(ctx, a, filter)
		if err != nil {
			return f, err
		}
		if filter {
			f.Got = got
		} else if got != worked {
			f.Unfiltered = got
		}
	}
	f.Holds = f.Got == f.Expected || f.Got == byFilter && strings.HasPrefix(f.Expected, byFilter)
	return f, nil
}

// byFilter is the result for a system call that was not allowed if the kernel
// did not tell which it was.
const byFilter = "seccomp"

// worked is the result of an attempt that was not stopped. The others are the
// names of errors ("ENOENT"), "seccomp: socket" for a system call that is not
// allowed, "memory" or "file size" for the limit that was reached.
const worked = "WORKED"

// runFree makes an attempt as root on the host.
func (b *battery) runFree(ctx context.Context, a attempt) (string, error) {
	order, err := orderFor(a, b.free)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, b.exe, probeName, order)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", err
	}
	return result(string(out), jail.End{Status: cmd.ProcessState}), nil
}

// runCaged makes an attempt in the cage.
func (b *battery) runCaged(ctx context.Context, a attempt, filter bool) (string, error) {
	order, err := orderFor(a, b.inCage)
	if err != nil {
		return "", err
	}
	c := b.Cage
	c.Program = root.Program{Path: b.exe, Devices: b.Cage.Program.Devices}
	c.Args, c.Unfiltered = []string{probeName, order}, b.Cage.Unfiltered || !filter
	p, err := b.Jail.Start(ctx, c)
	if err != nil {
		return "", err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), p.Kill(context.WithoutCancel(ctx)))
	}
	return result(p.Log(), p.End()), p.End().Released
}

func orderFor(a attempt, t target) (string, error) {
	b, err := json.Marshal(order{a.name, t})
	return string(b), err
}

// result says what became of an attempt, from its words and its end.
func result(words string, end jail.End) string {
	ws, _ := end.Status.Sys().(syscall.WaitStatus)
	switch {
	case end.OutOfMemory:
		return "memory"
	case end.Syscall == seccomp.Unnamed:
		return byFilter
	case end.Syscall != "":
		return filtered(end.Syscall)
	case ws.Signaled() && ws.Signal() == syscall.SIGXFSZ:
		return "file size"
	case ws.Signaled():
		return ws.Signal().String()
	case strings.Contains(words, "failed to create new OS thread"), strings.Contains(words, "pthread_create failed"):
		return "processes"
	}
	words, _, _ = strings.Cut(strings.TrimSpace(words), "\n")
	return words
}

// probeName is the first argument of a process that makes one attempt.
const probeName = "bulkhead-attack-probe"

// order is its second.
type order struct {
	Attempt string
	Target  target
}

// Enter must come early in the main of a program that uses Run. It returns at
// once, unless this process is to make an attempt: then it never does.
func Enter() {
	if len(os.Args) != 3 || os.Args[1] != probeName {
		return
	}
	var o order
	if err := json.Unmarshal([]byte(os.Args[2]), &o); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, a := range attempts() {
		if a.name == o.Attempt {
			fmt.Println(outcome(a.try(o.Target)))
			os.Exit(0)
		}
	}
	fmt.Println("no such attempt")
	os.Exit(1)
}

// outcome is the name of an error, "ENOENT".
func outcome(err error) string {
	if err == nil {
		return worked
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// inCage is the target for those in the cage: their own file is where the cage
// shows it, and the rest where it is on the host.
func (d *decoys) inCage(o Options) target {
	t := d.target
	t.Scratch = "/"
	for _, f := range o.Cage.Files {
		if f.Writable {
			t.File, t.Scratch = f.Inside, filepath.Dir(f.Inside)
		}
	}
	if v := o.Victim; v != nil {
		t.PID, t.Other, t.Socket = v.PID, v.Memory, v.Socket
	}
	return t
}
