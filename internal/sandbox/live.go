package sandbox

import (
	"context"
	"fmt"
	"time"

	"bulkhead/internal/pool"
	"bulkhead/internal/unwind"
	"bulkhead/internal/vmm"
	"bulkhead/proto/machine"
)

// Bounds on what a guest may take. They are generous because guests under a
// software translator on a busy host are slow; a guest that exceeds them is
// broken.
const (
	// restoreTimeout covers the first answer of a restored machine: 0.45 s
	// measured when idle.
	restoreTimeout = 30 * time.Second
	// bootTimeout covers kernel, init and agent: 15 s measured when idle.
	bootTimeout = 4 * time.Minute
	// guestTimeout covers one call to a running guest.
	guestTimeout = 30 * time.Second
)

// live is a machine that runs: its VMM and, once connected, its guest.
type live struct {
	vm    vmm.Machine
	guest Guest
}

// restore starts a machine from a saved state and returns when its guest has
// confirmed that clock, randomness and identity are right. On error nothing
// runs.
func (m *Manager) restore(ctx context.Context, spec vmm.Spec, state string, id *machine.Identity) (l *live, err error) {
	var undo unwind.Stack
	defer undo.OnError(ctx, &err)
	vm, err := m.Driver.Restore(ctx, spec, state)
	if err != nil {
		return nil, fmt.Errorf("load machine: %w", err)
	}
	undo.Add("kill VMM", vm.Kill)
	if err := vm.Continue(ctx); err != nil {
		return nil, fmt.Errorf("continue restored machine: %w", err)
	}
	g, err := m.greet(ctx, vm, id, restoreTimeout)
	if err != nil {
		return nil, fmt.Errorf("restored guest: %w", err)
	}
	return &live{vm: vm, guest: g}, nil
}

// boot starts a machine from power-on and returns when its agent has
// confirmed the same as after a restore.
func (m *Manager) boot(ctx context.Context, spec vmm.Spec, id *machine.Identity) (l *live, err error) {
	var undo unwind.Stack
	defer undo.OnError(ctx, &err)
	vm, err := m.Driver.Boot(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("boot machine: %w", err)
	}
	undo.Add("kill VMM", vm.Kill)
	g, err := m.greet(ctx, vm, id, bootTimeout)
	if err != nil {
		return nil, fmt.Errorf("booted guest: %w", err)
	}
	return &live{vm: vm, guest: g}, nil
}

// greet connects to the agent of a machine and has it make the machine right.
func (m *Manager) greet(ctx context.Context, vm vmm.Machine, id *machine.Identity, limit time.Duration) (g Guest, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	conn, err := vm.Guest(ctx)
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	g, err = m.Connect(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("connect to agent: %w", exitedOr(vm, err))
	}
	if err := g.Resume(ctx, id); err != nil {
		g.Close()
		return nil, fmt.Errorf("make machine right: %w", exitedOr(vm, err))
	}
	return g, nil
}

// exitedOr returns how vm ended if it did, which explains err, else err.
func exitedOr(vm vmm.Machine, err error) error {
	select {
	case <-vm.Done():
		return fmt.Errorf("%s: %w", vm.Exit().Reason, err)
	default:
		return err
	}
}

// stoppedMoment says how long a snapshot held a machine.
type stoppedMoment struct {
	// Stopped is how long the virtual CPUs stood still, Frozen how long user
	// processes did; Frozen includes Stopped.
	Stopped, Frozen time.Duration
}

// capture takes one moment of a running machine into draft: memory, disk and
// device state of one and the same stop. The machine runs on when capture
// returns, with or without an error, unless its VMM died.
func (m *Manager) capture(ctx context.Context, l *live, draft *pool.Draft) (at stoppedMoment, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*guestTimeout)
	defer cancel()
	frozen := m.Clock()
	// The guest stays frozen in the snapshot, so that a machine restored from
	// it runs nothing before its clock and identity are right.
	if err := l.guest.Freeze(ctx); err != nil {
		return at, fmt.Errorf("freeze guest: %w", err)
	}
	defer func() {
		if thaw := l.guest.Resume(context.WithoutCancel(ctx), nil); thaw != nil && err == nil {
			err = fmt.Errorf("thaw guest: %w", thaw)
		}
		at.Frozen = m.Clock().Sub(frozen)
	}()
	at.Stopped, err = m.captureStopped(ctx, l.vm, draft)
	return at, err
}

// captureStopped is the stopped window. Nothing in it may wait for stable
// storage.
func (m *Manager) captureStopped(ctx context.Context, vm vmm.Machine, draft *pool.Draft) (stopped time.Duration, err error) {
	var undo unwind.Stack
	began := m.Clock()
	if err := vm.Stop(ctx); err != nil {
		return 0, fmt.Errorf("stop machine: %w", err)
	}
	undo.Add("continue machine", vm.Continue)
	defer undo.OnError(ctx, &err)
	if err := vm.SaveState(ctx, draft.State()); err != nil {
		return 0, fmt.Errorf("save device state: %w", err)
	}
	if err := draft.Clone(ctx); err != nil {
		return 0, fmt.Errorf("clone memory and disk: %w", err)
	}
	undo.Release()
	if err := vm.Continue(ctx); err != nil {
		return 0, fmt.Errorf("continue machine: %w", err)
	}
	return m.Clock().Sub(began), nil
}

// flush writes back what the guest and the host hold dirty while the machine
// runs, so that the stopped window has little left to write.
func (m *Manager) flush(ctx context.Context, l *live, id pool.MachineID) error {
	ctx, cancel := context.WithTimeout(ctx, 4*guestTimeout)
	defer cancel()
	if err := l.guest.Sync(ctx); err != nil {
		return fmt.Errorf("sync guest: %w", err)
	}
	if err := m.Pool.Flush(ctx, id); err != nil {
		return fmt.Errorf("flush machine: %w", err)
	}
	return nil
}
