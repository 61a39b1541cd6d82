package jail

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"bulkhead/internal/durable"
	"bulkhead/internal/jail/seccomp"

	"golang.org/x/sys/unix"
)

// recordFile is the record of a program, in Cage.Dir.
const recordFile = "cage.json"

// record is what a later process of ours must know of a program.
type record struct {
	identity
	UID int `json:"uid"`
	// Root is the folder that it runs on, Files what it sees besides.
	Root    string   `json:"root"`
	Files   []File   `json:"files"`
	Devices []string `json:"devices"`
	// Inherited is what it was handed, as a report calls it: "socket".
	Inherited []string `json:"inherited"`
	Limits    Limits   `json:"limits"`
}

// identity tells a process from every other, past and future: a number is
// used again, a number with its start time is not.
type identity struct {
	PID int `json:"pid"`
	// Ticks is field 22 of /proc/PID/stat: clock ticks since boot.
	Ticks uint64 `json:"start_ticks"`
}

// Process is a program that runs in a cage, or ran. Its methods are safe for
// concurrent use.
type Process struct {
	record
	jail    *Jail
	holding *holding
	log     *os.File
	// child is set if we started it: only then can its status be read.
	child *exec.Cmd
	done  chan struct{}
	// killed is set by Kill.
	killed atomic.Bool
	mu     sync.Mutex
	pidfd  *os.File // guarded by mu; nil once the process has ended
	// end is valid after done.
	end End
}

// End says how a program ended.
type End struct {
	// Status is nil if an earlier process of ours started it.
	Status *os.ProcessState
	// OutOfMemory is set if the kernel killed it for its group's limit.
	OutOfMemory bool
	// Syscall is what it called and must not, "" if it did not, or if the
	// kernel does not tell: its log tells only the first of many.
	Syscall string
	// Released says why its cage could not be released, nil if it was.
	Released error
}

// PID returns the process's number on the host. It is for display: the
// process may end at any time and its number be used again.
func (p *Process) PID() int { return p.record.PID }

// Done is closed when the program has ended and its cage is released.
func (p *Process) Done() <-chan struct{} { return p.done }

// End returns how the program ended. It is valid only after Done.
func (p *Process) End() End { return p.end }

// Kill ends the program and waits until it is gone. Killing one that has ended
// is no error.
func (p *Process) Kill(ctx context.Context) error {
	p.killed.Store(true)
	if err := p.signal(unix.SIGKILL); err != nil {
		return fmt.Errorf("kill process %d: %w", p.record.PID, err)
	}
	select {
	case <-p.done:
		return p.end.Released
	case <-ctx.Done():
		return fmt.Errorf("wait for process %d to end: %w", p.record.PID, ctx.Err())
	}
}

// signal sends a signal to this very process; one that has ended gets none.
func (p *Process) signal(sig unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd == nil {
		return nil
	}
	err := unix.PidfdSendSignal(int(p.pidfd.Fd()), sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// wait waits for the end, finds out why, and releases the cage.
func (p *Process) wait() {
	if p.child != nil {
		p.child.Wait() // the status says it all
		p.end.Status = p.child.ProcessState
	} else {
		poll := []unix.PollFd{{Fd: int32(p.pidfd.Fd()), Events: unix.POLLIN}} // nobody else ends it
		for {
			if _, err := unix.Poll(poll, -1); !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
	p.mu.Lock()
	p.pidfd.Close()
	p.pidfd = nil
	p.mu.Unlock()
	if kills, err := p.holding.group.OOMKills(); err == nil && !p.killed.Load() {
		p.end.OutOfMemory = kills > 0
	}
	p.end.Syscall = seccomp.Refused(p.record.PID, p.end.Status)
	ctx, cancel := context.WithTimeout(context.Background(), releaseLimit)
	defer cancel()
	if p.end.Released = p.holding.release(ctx); p.end.Released != nil {
		p.jail.cfg.Log.Warn("cage is not released", "err", p.end.Released)
	}
}

// write records the program, before it runs.
func (r record) write(dir string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, recordFile), b, 0o600); err != nil {
		return fmt.Errorf("record process: %w", err)
	}
	return nil
}

// readRecord returns os.ErrProcessDone if there is no record. One that cannot
// be read is a half-written one of before the program ran.
func readRecord(dir string) (r record, err error) {
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, os.ErrProcessDone
	}
	if err != nil {
		return r, err
	}
	if json.Unmarshal(b, &r) != nil {
		return r, os.ErrProcessDone
	}
	return r, nil
}

// open takes hold of a recorded process. The start time is read after the
// pidfd is open: from then on the number cannot mean another process.
func (j *Jail) open(r record, dir string) (*Process, error) {
	fd, err := unix.PidfdOpen(r.PID, 0)
	if err != nil {
		return nil, os.ErrProcessDone
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	if ticks, err := startTicks(r.PID); err != nil || ticks != r.Ticks {
		pidfd.Close()
		return nil, os.ErrProcessDone
	}
	h := &holding{UID: r.UID, Dir: dir, lease: filepath.Join(j.cfg.Leases, strconv.Itoa(r.UID))}
	for _, f := range r.Files {
		if f.Writable {
			h.Files = append(h.Files, f.Host)
		}
	}
	h.group = j.groups.Open(groupName(r.UID))
	p := &Process{record: r, jail: j, holding: h, pidfd: pidfd, log: openLog(r.PID), done: make(chan struct{})}
	j.hold(p)
	return p, nil
}

// startTicks reads field 22 of /proc/PID/stat (proc(5)). The name in field 2
// may hold anything, so fields are counted after its closing parenthesis.
// A zombie counts as ended.
func startTicks(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: unknown form", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return 0, os.ErrProcessDone
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
