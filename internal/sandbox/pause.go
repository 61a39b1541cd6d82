package sandbox

import (
	"context"
	"errors"
	"fmt"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/lifecycle"
)

// Pause writes a running machine out and ends its VMM: nothing of it is left on
// the host but a snapshot. Whatever is asked of it later resumes it, unless
// stay says that only Resume does.
func (m *Manager) Pause(ctx context.Context, ref string, stay bool) (Sandbox, error) {
	return m.ask(ctx, ref, lifecycle.Pause, func(b *box, ctx context.Context) error { return b.pause(ctx, stay) })
}

// PauseUntilBoot pauses a sandbox like Pause, and has it resumed once the host
// has started again.
func (m *Manager) PauseUntilBoot(ctx context.Context, ref string) (Sandbox, error) {
	return m.ask(ctx, ref, lifecycle.Pause, func(b *box, ctx context.Context) error {
		if err := b.pause(ctx, false); err != nil {
			return err
		}
		b.mu.Lock()
		b.rec.Returns = true
		rec := b.rec
		b.mu.Unlock()
		return m.Store.Save(ctx, rec)
	})
}

// PauseIdle pauses a sandbox like Pause, unless it has come to be used.
func (m *Manager) PauseIdle(ctx context.Context, ref string) error {
	b, err := m.find(ref)
	if err != nil {
		return err
	}
	return b.do(ctx, lifecycle.Pause, func(ctx context.Context) error {
		if b.used.Open() > 0 {
			b.settle(ctx, lifecycle.Ended, "")
			return fault.New(fault.WrongState, "sandbox %s is in use", b.record().Name)
		}
		return b.pause(ctx, false)
	})
}

// Resume brings a paused machine back where it was, or has a suspended one go
// on.
func (m *Manager) Resume(ctx context.Context, ref string) (Sandbox, error) {
	b, err := m.find(ref)
	if err != nil {
		return Sandbox{}, err
	}
	if b.record().State == lifecycle.Suspended {
		return m.ask(ctx, ref, lifecycle.Wake, (*box).goOn)
	}
	return m.ask(ctx, ref, lifecycle.Resume, (*box).resume)
}

// Wake has a sandbox go on that is suspended, or paused and may be woken; it
// returns at once for one that is neither.
func (m *Manager) Wake(ctx context.Context, ref string) error {
	b, err := m.find(ref)
	if err != nil {
		return err
	}
	return b.wake(ctx)
}

func (b *box) wake(ctx context.Context) error {
	rec := b.record()
	event, do := lifecycle.Resume, b.resume
	switch rec.State {
	case lifecycle.Suspending, lifecycle.Suspended:
		event, do = lifecycle.Wake, b.goOn
	case lifecycle.Pausing, lifecycle.Paused, lifecycle.Resuming:
	default:
		return nil
	}
	if rec.State == lifecycle.Paused && rec.Stay {
		return fault.New(fault.WrongState, "sandbox %s is paused and stays so", rec.Name).Hint("%s", wayBack(rec))
	}
	err := b.do(ctx, event, do)
	var r *lifecycle.RefusedError
	if errors.As(err, &r) && r.State == lifecycle.Running {
		return nil // somebody else was faster
	}
	return err
}

// pause writes the machine out, then ends it. Once it is recorded as paused the
// snapshot is all that counts: a VMM that a crash leaves is ended at the next
// start.
func (b *box) pause(ctx context.Context, stay bool) (err error) {
	rec := b.record()
	began := b.m.Clock()
	snap, err := b.writeOut(ctx)
	if err != nil {
		if l := b.machine(); l != nil && !l.Ended() {
			b.settle(ctx, lifecycle.Ended, "")
			return b.explain("pause", err)
		}
		b.diedWithin(ctx, err)
		return b.explain("pause", err)
	}
	b.mu.Lock()
	b.rec.Head, b.rec.Stay = snap.ID, stay
	b.mu.Unlock()
	b.took(snap.Created)
	b.settle(ctx, lifecycle.WrittenOut, "")
	if err := b.halt(ctx); err != nil {
		return fmt.Errorf("pause sandbox %s: %w", rec.Name, err)
	}
	b.m.Events.Append(ctx, "sandbox.paused", string(rec.ID), map[string]string{
		"snapshot": string(snap.ID), "took": b.m.Clock().Sub(began).String(),
	})
	if err := b.history().Supersede(ctx, snap, keepPasts); err != nil {
		b.log.WarnContext(ctx, "snapshots of earlier pauses stay", "err", err)
	}
	return nil
}

func (b *box) writeOut(ctx context.Context) (pool.Snapshot, error) {
	if _, err := b.guest(ctx); err != nil {
		return pool.Snapshot{}, err
	}
	return b.m.Machines.WriteOut(ctx, b.machine(), b.poolID(), b.meta("", causePause))
}

// resume starts the machine from the snapshot that it was paused into. On error
// it is paused as before.
func (b *box) resume(ctx context.Context) (err error) {
	rec := b.record()
	began := b.m.Clock()
	defer func() {
		if err != nil {
			err = fmt.Errorf("resume sandbox %s: %w", rec.Name, err)
			b.settle(ctx, lifecycle.Failed, err.Error())
		}
	}()
	if _, err := b.m.Machines.Pool.Rollback(ctx, b.poolID(), rec.Head); err != nil {
		return err
	}
	l, err := b.m.Machines.Restore(ctx, b.poolID(), rec.Size, nil)
	if err != nil {
		return err
	}
	b.put(l)
	b.settle(ctx, lifecycle.Started, "")
	b.m.Events.Append(ctx, "sandbox.resumed", string(rec.ID), map[string]string{"took": b.m.Clock().Sub(began).String()})
	return nil
}

// meta describes a snapshot of the machine as it is now.
func (b *box) meta(name, cause string) pool.Meta {
	rec := b.record()
	return pool.Meta{
		Sandbox: string(rec.ID), Name: name, Parent: rec.Head, Cause: cause,
		CPUs: rec.Size.CPUs, MemoryMiB: rec.Size.MemoryMiB,
	}
}
