package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"bulkhead/internal/jail"
	"bulkhead/internal/vmm"
	"bulkhead/internal/vmm/qemu/qmp"
)

// connectTimeout bounds the time from QEMU's start to its first answer: 20 ms
// measured when idle.
const connectTimeout = 30 * time.Second

// lastWordsTimeout bounds the wait for the end of a connection whose other end
// is gone: it comes at once, unless something else holds it open.
const lastWordsTimeout = time.Second

// Machine is one QEMU process.
type Machine struct {
	spec    vmm.Spec
	proc    *jail.Process
	qmp     *qmp.Conn
	console *console

	// busy holds a token for whoever changes the machine.
	busy chan struct{}
	// migrated receives how a migration went: "completed", "failed".
	migrated chan string
	done     chan struct{} // closed when exit is valid

	mu sync.Mutex
	// early is a connection to the guest from before it ran, until somebody
	// asks for it; guarded by mu.
	early    net.Conn
	shutdown string // guarded by mu; QEMU's reason for ending by itself
	killed   bool   // guarded by mu; Kill was called
	exit     vmm.Exit
}

// connect speaks to a QEMU that has just been started, or was found.
func (d *Driver) connect(ctx context.Context, spec vmm.Spec, p *jail.Process) (*Machine, error) {
	m := &Machine{
		spec: spec, proc: p, busy: make(chan struct{}, 1),
		migrated: make(chan string, 4), done: make(chan struct{}),
	}
	m.busy <- struct{}{}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var err error
	if m.qmp, err = m.dialQMP(ctx); err != nil {
		return nil, fmt.Errorf("connect to VMM: %w%s", err, m.lastWords())
	}
	if _, err := m.qmp.Do(ctx, "migrate-set-capabilities", capabilities()); err != nil {
		m.qmp.Close()
		return nil, fmt.Errorf("set up VMM: %w", err)
	}
	if m.console, err = openConsole(spec.RunDir); err != nil {
		m.qmp.Close()
		return nil, err
	}
	go m.watch()
	return m, nil
}

// capabilities asks for events instead of polling, and keeps memory, which is
// a shared file, out of the saved state.
func capabilities() any {
	type one struct {
		Capability string `json:"capability"`
		State      bool   `json:"state"`
	}
	return map[string]any{"capabilities": []one{{"events", true}, {"x-ignore-shared", true}}}
}

// dialQMP connects to a VMM that may not have come to its sockets yet: they
// listen already. If it has ended, that is what is told.
func (m *Machine) dialQMP(ctx context.Context) (*qmp.Conn, error) {
	c, err := qmp.Dial(ctx, filepath.Join(m.spec.RunDir, ControlSocket), m.onEvent)
	if err == nil || ctx.Err() != nil {
		return c, err
	}
	select {
	case <-m.proc.Done():
		return nil, errors.New("VMM ended at its start" + m.diedOf())
	case <-time.After(lastWordsTimeout):
		return nil, err
	}
}

func (m *Machine) onEvent(e qmp.Event) {
	switch e.Name {
	case "MIGRATION":
		var d struct{ Status string }
		if json.Unmarshal(e.Data, &d) == nil && (d.Status == "completed" || d.Status == "failed") {
			select {
			case m.migrated <- d.Status:
			default: // nobody waits: a confused or hostile VMM
			}
		}
	case "SHUTDOWN":
		var d struct{ Reason string }
		if json.Unmarshal(e.Data, &d) == nil {
			m.mu.Lock()
			m.shutdown = d.Reason
			m.mu.Unlock()
		}
	}
}

// PID implements vmm.Machine.
func (m *Machine) PID() int { return m.proc.PID() }

// Guest implements vmm.Machine.
func (m *Machine) Guest(ctx context.Context) (net.Conn, error) {
	m.mu.Lock()
	early := m.early
	m.early = nil
	m.mu.Unlock()
	if early != nil {
		return early, nil
	}
	return m.dialGuest(ctx)
}

func (m *Machine) dialGuest(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", filepath.Join(m.spec.RunDir, guestSocket))
}

// lock waits until nobody else changes the machine.
func (m *Machine) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case <-m.busy:
		return func() { m.busy <- struct{}{} }, nil
	case <-m.done:
		return nil, fmt.Errorf("VMM has ended: %s", m.Exit().Reason)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Stop implements vmm.Machine. QEMU's stop drains and flushes block devices
// before it answers (vm_stop, bdrv_flush_all).
func (m *Machine) Stop(ctx context.Context) error { return m.do(ctx, "stop") }

// Continue implements vmm.Machine.
func (m *Machine) Continue(ctx context.Context) error { return m.do(ctx, "cont") }

// Balloon implements vmm.Machine.
func (m *Machine) Balloon(ctx context.Context, mib int) error {
	return m.tell(ctx, "balloon", map[string]int64{"value": int64(mib) << 20})
}

func (m *Machine) do(ctx context.Context, command string) error { return m.tell(ctx, command, nil) }

func (m *Machine) tell(ctx context.Context, command string, arguments any) error {
	unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = m.qmp.Do(ctx, command, arguments)
	return err
}

// SaveState implements vmm.Machine.
func (m *Machine) SaveState(ctx context.Context, file *os.File) error {
	unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := m.migrate(ctx, "migrate", file); err != nil {
		return err
	}
	return m.settle(ctx)
}

// settle waits until QEMU has left the state in which it saves. It says that a
// migration is complete before that, and until then refuses to continue
// (qmp_cont, "Migration is not finalized yet"; seen on a busy host).
func (m *Machine) settle(ctx context.Context) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		b, err := m.qmp.Do(ctx, "query-status", nil)
		if err != nil {
			return err
		}
		var is struct{ Status string }
		if err := json.Unmarshal(b, &is); err != nil {
			return fmt.Errorf("read status of VMM: %w", err)
		}
		if is.Status != "finish-migrate" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// migrate moves device state to or from file and waits for the end of it.
func (m *Machine) migrate(ctx context.Context, command string, file *os.File) error {
	for len(m.migrated) > 0 {
		<-m.migrated
	}
	if _, err := m.qmp.DoFile(ctx, "getfd", map[string]string{"fdname": "state"}, file); err != nil {
		return fmt.Errorf("pass file: %w", err)
	}
	if _, err := m.qmp.Do(ctx, command, map[string]string{"uri": "fd:state"}); err != nil {
		return err
	}
	select {
	case status := <-m.migrated:
		if status != "completed" {
			return errors.New("VMM refused it")
		}
		return nil
	case <-m.proc.Done():
		return errors.New("VMM ended")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Kill implements vmm.Machine.
func (m *Machine) Kill(ctx context.Context) error {
	m.mu.Lock()
	m.killed = true
	m.mu.Unlock()
	if err := m.proc.Kill(ctx); err != nil {
		return err
	}
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Done implements vmm.Machine.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Exit implements vmm.Machine.
func (m *Machine) Exit() vmm.Exit { return m.exit }

// watch waits for the end of the process and says how it ended.
func (m *Machine) watch() {
	<-m.proc.Done()
	// What QEMU said last, why it ends, may still be on its way to us.
	select {
	case <-m.qmp.Done():
	case <-time.After(lastWordsTimeout):
	}
	m.qmp.Close()
	m.console.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.early != nil {
		m.early.Close()
		m.early = nil
	}
	m.exit = m.reason()
	close(m.done)
}

func (m *Machine) reason() vmm.Exit {
	switch {
	case m.killed:
		return vmm.Exit{Cause: vmm.Killed, Reason: "killed"}
	case m.shutdown == "guest-shutdown":
		return vmm.Exit{Cause: vmm.PoweredOff, Reason: "guest powered off"}
	case m.shutdown == "guest-reset" && strings.Contains(m.console.Tail(), "Kernel panic"):
		// A panic resets the machine: only the console tells the two apart.
		return vmm.Exit{Cause: vmm.Died, Reason: "guest panicked"}
	case m.shutdown == "guest-reset":
		return vmm.Exit{Cause: vmm.Rebooted, Reason: "guest rebooted"}
	}
	return vmm.Exit{Cause: vmm.Died, Reason: "VMM died" + m.diedOf() + m.lastWords()}
}

// diedOf says what ended a VMM, as far as that is known.
func (m *Machine) diedOf() string {
	end := m.proc.End()
	switch {
	case end.OutOfMemory:
		return ": out of memory, more than the machine's and its share for the VMM"
	case end.Syscall != "":
		return ": its jail does not allow the system call " + end.Syscall
	case end.Status != nil:
		return ": " + end.Status.String()
	}
	return ""
}

// lastWords is the last line of what QEMU printed, for messages.
func (m *Machine) lastWords() string {
	words := strings.TrimSpace(m.proc.Log())
	if i := strings.LastIndexByte(words, '\n'); i >= 0 {
		words = words[i+1:]
	}
	if words == "" || strings.Contains(words, "warning: nic") {
		return ""
	}
	return " (" + words + ")"
}
