package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"bulkhead/internal/durable"

	"golang.org/x/sys/unix"
)

// pidFile records a VMM's process, so that a later daemon finds it.
const pidFile = "vmm.json"

// identity tells a process from every other, past and future: a number is
// used again, a number with its start time is not.
type identity struct {
	PID int `json:"pid"`
	// Ticks is field 22 of /proc/PID/stat: clock ticks since boot.
	Ticks uint64 `json:"start_ticks"`
}

// process is a VMM that runs, or ran.
type process struct {
	identity
	pidfd *os.File
	// child is set if we started it: only then can its status be read.
	child *exec.Cmd
	done  chan struct{}
	// status is valid after done; nil if it is not known.
	status *os.ProcessState
}

// launch starts argv with its run directory as working directory, detached
// from us: in a session of its own, with no pipe that would end with us.
func launch(binary string, argv []string, runDir string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(runDir, logFile), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open VMM log: %w", err)
	}
	defer log.Close()
	var pidfd int
	cmd := exec.Command(binary, argv...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = runDir, log, log
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start VMM: %w", err)
	}
	ticks, err := startTicks(cmd.Process.Pid)
	if err != nil { // it has ended already; waiting for it tells how
		ticks = 0
	}
	p := &process{
		identity: identity{cmd.Process.Pid, ticks},
		pidfd:    os.NewFile(uintptr(pidfd), "pidfd"), child: cmd, done: make(chan struct{}),
	}
	go p.wait()
	if err := p.record(runDir); err != nil {
		return nil, errors.Join(err, p.kill(context.Background()))
	}
	return p, nil
}

func (p *process) record(runDir string) error {
	b, err := json.Marshal(p.identity)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(runDir, pidFile), b, 0o600); err != nil {
		return fmt.Errorf("record VMM: %w", err)
	}
	return nil
}

func (p *process) wait() {
	defer close(p.done)
	if p.child != nil {
		p.child.Wait() // the status says it all
		p.status = p.child.ProcessState
	} else {
		poll := []unix.PollFd{{Fd: int32(p.pidfd.Fd()), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(poll, -1); !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
	p.pidfd.Close()
}

// kill ends the process and waits until it is gone.
func (p *process) kill(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	if err := p.signal(unix.SIGKILL); err != nil {
		return fmt.Errorf("kill VMM %d: %w", p.PID, err)
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for VMM %d to end: %w", p.PID, ctx.Err())
	}
}

// signal sends a signal to this very process; one that has ended gets none.
func (p *process) signal(sig unix.Signal) error {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	if errors.Is(err, os.ErrClosed) || errors.Is(sent, unix.ESRCH) {
		return nil
	}
	return errors.Join(err, sent)
}

// find returns the VMM that runs in runDir: the recorded one if it is the
// same process still, else one whose command line names the directory, which
// is what a daemon leaves that died between starting and recording.
// os.ErrProcessDone if there is none.
func find(runDir string) (*process, error) {
	if b, err := os.ReadFile(filepath.Join(runDir, pidFile)); err == nil {
		var id identity
		if err := json.Unmarshal(b, &id); err == nil {
			if p, err := open(id); err == nil {
				return p, nil
			}
		}
	}
	pids, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	mark := []byte("path=" + escape(filepath.Join(runDir, qmpSocket)) + "\x00")
	for _, f := range pids {
		b, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(b, mark) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			continue
		}
		if ticks, err := startTicks(pid); err == nil {
			return open(identity{pid, ticks})
		}
	}
	return nil, os.ErrProcessDone
}

// open takes hold of a process. The start time is read after the pidfd is
// open: from then on the number cannot mean another process.
func open(id identity) (*process, error) {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		return nil, os.ErrProcessDone
	}
	p := &process{identity: id, pidfd: os.NewFile(uintptr(fd), "pidfd"), done: make(chan struct{})}
	if ticks, err := startTicks(id.PID); err != nil || ticks != id.Ticks {
		p.pidfd.Close()
		return nil, os.ErrProcessDone
	}
	go p.wait()
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
