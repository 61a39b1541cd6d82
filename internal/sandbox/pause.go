package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/live"
)

// PauseSpec says how a machine is paused.
type PauseSpec struct {
	// Stay means that only Resume ends it, as with a lease that does not wake.
	Stay bool
	// Cold means that its disk alone counts: it boots when it comes back.
	Cold bool
	// UntilBoot has it resumed once the host has started again.
	UntilBoot bool
	// over means that it had its time, which does not end again.
	over bool
}

// Pause writes a running machine out and ends its VMM: nothing of it is left on
// the host but a snapshot. Whatever is asked of it later resumes it, unless it
// is to stay.
func (m *Manager) Pause(ctx context.Context, ref string, spec PauseSpec) (Sandbox, error) {
	return m.ask(ctx, ref, lifecycle.Pause, func(b *box, ctx context.Context) error { return b.pause(ctx, spec) })
}

// PauseIdle pauses a sandbox like Pause, unless it has come to be used.
func (m *Manager) PauseIdle(ctx context.Context, ref string) error {
	b, err := m.find(ref)
	if err != nil {
		return err
	}
	return b.hand(ctx, job{
		event: lifecycle.Pause,
		fits: func(rec Record) error {
			if b.used.Open() > 0 {
				return fault.New(fault.WrongState, "sandbox %s is in use", rec.Name)
			}
			return nil
		},
		run: func(ctx context.Context) error { return b.pause(ctx, PauseSpec{}) },
	})
}

// ResumeSpec says how a machine comes back.
type ResumeSpec struct {
	// Term is how long its lease lasts from then on; 0 for the lease's own.
	Term time.Duration
	// Cold boots it from its disk.
	Cold bool
}

// Resume brings a paused machine back where it was, or has a suspended one go
// on.
func (m *Manager) Resume(ctx context.Context, ref string, spec ResumeSpec) (Sandbox, error) {
	b, err := m.find(ref)
	if err != nil {
		return Sandbox{}, err
	}
	if b.record().State == lifecycle.Suspended {
		return m.ask(ctx, ref, lifecycle.Wake, (*box).goOn)
	}
	return m.ask(ctx, ref, lifecycle.Resume, func(b *box, ctx context.Context) error { return b.resume(ctx, spec) })
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

// maxWakes is how often a machine is woken for one request: it may come into
// another state before each turn.
const maxWakes = 3

func (b *box) wake(ctx context.Context) (err error) {
	resume := job{
		event: lifecycle.Resume,
		fits: func(rec Record) error {
			if rec.State == lifecycle.Paused && rec.Stay {
				return fault.New(fault.WrongState, "sandbox %s is paused and stays so", rec.Name).Hint("%s", wayBack(rec))
			}
			return nil
		},
		run: func(ctx context.Context) error { return b.resume(ctx, ResumeSpec{}) },
	}
	for range maxWakes {
		switch b.record().State {
		case lifecycle.Suspending, lifecycle.Suspended:
			err = b.hand(ctx, job{event: lifecycle.Wake, run: b.goOn})
		case lifecycle.Pausing, lifecycle.Paused, lifecycle.Resuming:
			err = b.hand(ctx, resume)
		default:
			return nil
		}
		if !errors.As(err, new(*lifecycle.RefusedError)) {
			return err
		}
	}
	return err
}

// pause writes the machine out, then ends it. Once it is recorded as paused the
// snapshot is all that counts: a VMM that a crash leaves is ended at the next
// start.
func (b *box) pause(ctx context.Context, spec PauseSpec) (err error) {
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
	b.rec.Head, b.rec.Cold, b.rec.Stay = snap.ID, spec.Cold, spec.Stay || rec.Lease.Stays() || spec.Cold
	b.rec.Returns, b.rec.Schedule = spec.UntilBoot, rec.Lease.Suspend(b.rec.Schedule)
	if spec.over {
		b.rec.Schedule = b.rec.Schedule.Endless()
	}
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

// resume starts the machine from the snapshot that it was paused into, or boots
// it from that snapshot's disk. On error it is paused as before.
func (b *box) resume(ctx context.Context, spec ResumeSpec) (err error) {
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
	var l *live.Machine
	if spec.Cold || rec.Cold {
		l, err = b.m.Machines.Boot(ctx, b.poolID(), rec.Size, rec.identity())
	} else {
		l, err = b.m.Machines.Restore(ctx, b.poolID(), rec.Size, nil)
	}
	if err != nil {
		return err
	}
	b.put(l)
	b.begin(spec.Term)
	b.settle(ctx, lifecycle.Started, "")
	b.m.Events.Append(ctx, "sandbox.resumed", string(rec.ID), map[string]string{"took": b.m.Clock().Sub(began).String()})
	return nil
}

// begin puts the end of a lease to where it belongs when its machine comes up.
func (b *box) begin(term time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rec.Cold = false
	b.rec.Schedule = b.rec.Lease.Begin(b.rec.Schedule, b.m.Clock(), term)
}

// beginAgain has a lease go on that ended with its machine.
func (b *box) beginAgain() {
	if b.record().Schedule.Expires.IsZero() {
		b.begin(0)
	}
}

// meta describes a snapshot of the machine as it is now.
func (b *box) meta(name, cause string) pool.Meta {
	rec := b.record()
	return pool.Meta{
		Sandbox: string(rec.ID), Name: name, Parent: rec.Head, Cause: cause,
		CPUs: rec.Size.CPUs, MemoryMiB: rec.Size.MemoryMiB,
	}
}
