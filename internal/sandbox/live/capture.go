package live

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"bulkhead/internal/link"
	"bulkhead/internal/pool"
	"bulkhead/internal/unwind"
	"bulkhead/internal/vmm"
)

// Moment says how long a snapshot held a machine.
type Moment struct {
	// Stopped is how long the virtual CPUs stood still, Frozen how long user
	// processes did; Frozen includes Stopped.
	Stopped, Frozen time.Duration
}

// Take takes a snapshot of a running machine: memory, disk and device state
// of one stopped moment. The machine runs on when Take returns, with or
// without an error, unless its VMM died. On error there is no snapshot; it is
// ErrSilent for an agent that does not answer.
//
// Of meta, what only Take knows is filled in: time and VMM.
func (r *Runner) Take(ctx context.Context, m *Machine, id pool.MachineID, meta pool.Meta) (snap pool.Snapshot, at Moment, err error) {
	version, err := r.Driver.Version(ctx)
	if err != nil {
		return snap, at, err
	}
	draft, err := r.Pool.Begin(ctx, id)
	if err != nil {
		return snap, at, err
	}
	defer func() {
		if derr := draft.Discard(context.WithoutCancel(ctx)); derr != nil {
			r.Log.WarnContext(ctx, "snapshot draft not discarded", "err", derr)
		}
	}()
	if err := r.flush(ctx, m, id); err != nil {
		return snap, at, err
	}
	if at, err = r.capture(ctx, m, draft); err != nil {
		return snap, at, err
	}
	meta.Created, meta.Stopped, meta.Version = r.Clock(), at.Stopped, Facts(version)
	snap, err = draft.Commit(ctx, meta)
	return snap, at, err
}

// flush writes back what the guest and the host hold dirty while the machine
// runs, so that the stopped window has little left to write.
func (r *Runner) flush(ctx context.Context, m *Machine, id pool.MachineID) error {
	ctx, cancel := context.WithTimeout(ctx, 4*guestTimeout)
	defer cancel()
	never := func() bool { return false } // the machine runs
	if err := Attend(m.Guest, never).await(ctx, m.Guest.Sync); err != nil {
		return fmt.Errorf("sync guest: %w", err)
	}
	if err := r.Pool.Flush(ctx, id); err != nil {
		return fmt.Errorf("flush machine: %w", err)
	}
	return nil
}

// capture brings one moment of the machine into draft.
func (r *Runner) capture(ctx context.Context, m *Machine, draft *pool.Draft) (at Moment, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*guestTimeout)
	defer cancel()
	frozen := r.Clock()
	defer func() { // after a failure too: an agent may freeze and not say so
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), guestTimeout)
		defer cancel()
		if thaw := m.Guest.Resume(ctx, nil); thaw != nil && err == nil {
			err = fmt.Errorf("thaw guest: %w", thaw)
		}
		at.Frozen = r.Clock().Sub(frozen)
	}()
	// The guest stays frozen in the snapshot, so that a machine restored from
	// it runs nothing before its clock and identity are right.
	if err := m.Guest.Freeze(ctx); err != nil {
		return at, fmt.Errorf("freeze guest: %w", err)
	}
	at.Stopped, err = r.captureStopped(ctx, m.VM, draft)
	return at, err
}

// captureStopped is the stopped window. Nothing in it may wait for stable
// storage.
func (r *Runner) captureStopped(ctx context.Context, vm vmm.Machine, draft *pool.Draft) (stopped time.Duration, err error) {
	var undo unwind.Stack
	defer undo.OnError(ctx, &err)
	began := r.Clock()
	if err := vm.Stop(ctx); err != nil {
		return 0, fmt.Errorf("stop machine: %w", err)
	}
	undo.Add("continue machine", vm.Continue)
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
	return r.Clock().Sub(began), nil
}

// Facts is how a driver's version is kept in a snapshot's manifest, and that
// of the channel that the agent in the snapshot speaks.
func Facts(v vmm.Version) map[string]string {
	return map[string]string{
		"driver": v.Driver, "vmm": v.VMM, "machine": v.Machine,
		"accel": string(v.Accel), "cpu": v.CPU, "channel": strconv.Itoa(link.Version),
	}
}
