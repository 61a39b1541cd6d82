package live

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/link"
	"bulkhead/internal/pool"
	"bulkhead/internal/unwind"
	"bulkhead/internal/vmm"
)

// salvageTimeout is how long an agent may take to freeze its guest before a
// rollback: 60 ms measured under a translator.
const salvageTimeout = 5 * time.Second

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
	err = r.drafted(ctx, id, func(draft *pool.Draft) error {
		if err := r.flush(ctx, m, id); err != nil {
			return err
		}
		if at, err = r.capture(ctx, m, draft, nil); err != nil {
			return err
		}
		meta.Stopped = at.Stopped
		snap, err = r.Commit(ctx, draft, meta)
		return err
	})
	return snap, at, err
}

// WriteOut takes a last snapshot of a running machine, which is stopped and
// frozen once there is one: it is to be ended. On error there is no snapshot
// and the machine runs on, unless its VMM died.
func (r *Runner) WriteOut(ctx context.Context, m *Machine, id pool.MachineID, meta pool.Meta) (snap pool.Snapshot, err error) {
	err = r.drafted(ctx, id, func(draft *pool.Draft) error {
		if err := r.flush(ctx, m, id); err != nil {
			return err
		}
		_, err := r.capture(ctx, m, draft, func(ctx context.Context) (err error) {
			snap, err = r.Commit(ctx, draft, meta)
			return err
		})
		return err
	})
	return snap, err
}

// Salvage takes the moment of a machine that is about to be ended, in a
// fraction of a second: it does not wait for an agent that is slow, nor for
// the disk. The machine is stopped then. The caller ends it, then commits the
// draft or discards it; on error there is none and the machine may run.
func (r *Runner) Salvage(ctx context.Context, m *Machine, id pool.MachineID) (*pool.Draft, error) {
	draft, err := r.Pool.Begin(ctx, id)
	if err != nil {
		return nil, err
	}
	quick, cancel := context.WithTimeout(ctx, salvageTimeout)
	defer cancel()
	err = m.Guest.Freeze(quick)
	if err == nil {
		_, err = r.captureStopped(ctx, m.VM, draft, func(context.Context) error { return nil })
	}
	if err != nil {
		return nil, errors.Join(err, draft.Discard(context.WithoutCancel(ctx)))
	}
	return draft, nil
}

// Commit makes a draft a snapshot. Of meta, time and VMM are filled in.
func (r *Runner) Commit(ctx context.Context, draft *pool.Draft, meta pool.Meta) (pool.Snapshot, error) {
	version, err := r.Driver.Version(ctx)
	if err != nil {
		return pool.Snapshot{}, err
	}
	meta.Created, meta.Version = r.Clock(), Facts(version)
	return draft.Commit(ctx, meta)
}

// drafted calls f with a draft that is discarded unless f commits it.
func (r *Runner) drafted(ctx context.Context, id pool.MachineID, f func(*pool.Draft) error) error {
	draft, err := r.Pool.Begin(ctx, id)
	if err != nil {
		return err
	}
	defer func() {
		if derr := draft.Discard(context.WithoutCancel(ctx)); derr != nil {
			r.Log.WarnContext(ctx, "snapshot draft not discarded", "err", derr)
		}
	}()
	return f(draft)
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

// capture brings one moment of the machine into draft. With last, which is
// called while it is stopped, the machine does not go on if that succeeds.
func (r *Runner) capture(ctx context.Context, m *Machine, draft *pool.Draft, last func(context.Context) error) (at Moment, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*guestTimeout)
	defer cancel()
	frozen := r.Clock()
	defer func() { // after a failure too: an agent may freeze and not say so
		if last != nil && err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), guestTimeout)
		defer cancel()
		if thaw := m.Guest.Resume(ctx, nil, nil); thaw != nil && err == nil {
			err = fmt.Errorf("thaw guest: %w", thaw)
		}
		at.Frozen = r.Clock().Sub(frozen)
	}()
	// The guest stays frozen in the snapshot, so that a machine restored from
	// it runs nothing before its clock and identity are right.
	if err := m.Guest.Freeze(ctx); err != nil {
		return at, fmt.Errorf("freeze guest: %w", err)
	}
	at.Stopped, err = r.captureStopped(ctx, m.VM, draft, last)
	return at, err
}

// captureStopped is the stopped window. Nothing in it may wait for stable
// storage, unless the machine does not go on after it.
func (r *Runner) captureStopped(ctx context.Context, vm vmm.Machine, draft *pool.Draft, last func(context.Context) error) (stopped time.Duration, err error) {
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
	if last != nil {
		if err := last(ctx); err != nil {
			return 0, err
		}
		undo.Release()
		return 0, nil
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

// Fits says why a machine that a version has made cannot be loaded here; nil if it
// can.
func (r *Runner) Fits(ctx context.Context, version map[string]string) error {
	v, err := r.Driver.Version(ctx)
	if err != nil {
		return err
	}
	for key, want := range Facts(v) {
		if got := version[key]; got != want {
			return fault.New(fault.Unsupported, "it was made with %s %.60q, this host has %q", key, got, want).
				Hint("run the daemon with what it was made with")
		}
	}
	return nil
}
