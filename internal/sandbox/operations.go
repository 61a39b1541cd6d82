package sandbox

import (
	"context"
	"fmt"
	"time"

	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/history"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/unwind"
)

// The causes of snapshots.
const (
	causeManual = "manual" // somebody asked for it
	causePause  = "pause"
	causeFork   = "fork"
)

// Causes of snapshots that others take or tell apart.
const (
	CauseBeforeRollback = "before-rollback"
	CauseSchedule       = "schedule"
	CauseInside         = "inside" // the machine has asked for it
)

// birth is what a sandbox is made from.
type birth struct {
	from pool.SnapshotID
	// origin is the sandbox whose network policy it gets; "" for none.
	origin ID
	// ready is called before the machine runs, unless it is nil.
	ready func(ID) error
}

// create makes the machine of a new sandbox and starts it. On error nothing of
// it is left.
func (b *box) create(ctx context.Context, by birth) (err error) {
	rec := b.record()
	var undo unwind.Stack
	defer func() {
		if err != nil {
			b.settle(ctx, lifecycle.Failed, err.Error())
		}
	}()
	defer undo.OnError(ctx, &err)
	undo.Add("remove sandbox", func(ctx context.Context) error { return b.m.discard(ctx, rec.ID) })
	if err := b.m.Store.Save(ctx, rec); err != nil {
		return err
	}
	if err := b.m.Machines.Claim(ctx, b.poolID()); err != nil {
		return err
	}
	if by.origin != "" {
		if err := b.m.Machines.Network.Inherit(ctx, string(by.origin), string(rec.ID)); err != nil {
			return err
		}
	}
	if by.ready != nil {
		if err := by.ready(rec.ID); err != nil {
			return err
		}
	}
	if _, err := b.m.Machines.Pool.NewMachine(ctx, b.poolID(), by.from); err != nil {
		return err
	}
	l, err := b.m.Machines.Restore(ctx, b.poolID(), rec.Size, rec.identity())
	if err != nil {
		return err
	}
	b.put(l)
	b.begin(0)
	b.settle(ctx, lifecycle.Started, "")
	return nil
}

// snapshot takes a snapshot of the running machine, which goes on.
func (b *box) snapshot(ctx context.Context, meta pool.Meta) (snap pool.Snapshot, err error) {
	defer func() {
		if err == nil {
			b.settle(ctx, lifecycle.Ended, "")
			return
		}
		if l := b.machine(); l != nil && !l.Ended() {
			b.settle(ctx, lifecycle.Ended, "")
			return
		}
		b.diedWithin(ctx, err)
	}()
	rec := b.record()
	if _, err := b.guest(ctx); err != nil {
		return snap, err
	}
	snap, at, err := b.m.Machines.Take(ctx, b.machine(), b.poolID(), meta)
	if err != nil {
		return snap, b.explain("snapshot", err)
	}
	if snap.Sandbox != "" { // it is the sandbox's own
		b.setHead(snap.ID)
		b.took(snap.Created)
	}
	b.log.InfoContext(ctx, "snapshot taken", "snapshot", string(snap.ID), "stopped", at.Stopped, "frozen", at.Frozen)
	fields := map[string]string{"snapshot": string(snap.ID), "name": meta.Name, "cause": meta.Cause, "stopped": at.Stopped.String()}
	if what := meta.Labels[pool.LabelWhat]; what != "" {
		fields["what"] = what
	}
	b.m.Events.Append(ctx, "snapshot.taken", string(rec.ID), fields)
	return snap, nil
}

// rollback puts the machine back to snap, in place. The VMM ends.
func (b *box) rollback(ctx context.Context, snap pool.Snapshot) (took time.Duration, err error) {
	rec := b.record()
	began := b.m.Clock()
	defer func() {
		if err != nil {
			err = fmt.Errorf("rollback sandbox %s to %s: %w", rec.Name, snap.ID, err)
			b.settle(ctx, lifecycle.Failed, err.Error())
		}
	}()
	if err := b.halt(ctx); err != nil {
		return 0, err
	}
	if _, err := b.m.Machines.Pool.Rollback(ctx, b.poolID(), snap.ID); err != nil {
		return 0, err
	}
	if err := b.m.Machines.Network.Renew(ctx, string(rec.ID)); err != nil {
		return 0, err
	}
	l, err := b.m.Machines.Restore(ctx, b.poolID(), rec.Size, nil)
	if err != nil {
		return 0, err
	}
	took = b.m.Clock().Sub(began)
	b.put(l)
	b.setHead(snap.ID)
	b.beginAgain()
	b.settle(ctx, lifecycle.Started, "")
	b.m.Events.Append(ctx, "sandbox.rolled_back", string(rec.ID), map[string]string{"snapshot": string(snap.ID), "took": took.String()})
	return took, nil
}

// start boots the machine from its disk as it is: after a power-off, a crash
// or a reboot, or in place of one that runs. What was only in memory is lost.
func (b *box) start(ctx context.Context) (err error) {
	rec := b.record()
	defer func() {
		if err != nil {
			err = fmt.Errorf("start sandbox %s: %w", rec.Name, err)
			b.settle(ctx, lifecycle.Failed, err.Error())
		}
	}()
	if err := b.halt(ctx); err != nil {
		return err
	}
	l, err := b.m.Machines.Boot(ctx, b.poolID(), rec.Size, rec.identity())
	if err != nil {
		return err
	}
	b.put(l)
	b.settle(ctx, lifecycle.Started, "")
	return nil
}

// remove ends the VMM and removes everything that the sandbox has.
func (b *box) remove(ctx context.Context) error {
	rec := b.record()
	if err := b.halt(ctx); err != nil {
		return err
	}
	b.keeping.Wait() // what is kept meanwhile is to be removed too
	if err := b.m.discard(ctx, rec.ID); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", rec.Name, err)
	}
	b.settle(ctx, lifecycle.Removed, "")
	return nil
}

// halt ends the VMM if one runs.
func (b *box) halt(ctx context.Context) error {
	if l := b.take(); l != nil {
		return l.Kill(ctx)
	}
	return nil
}

func (b *box) setHead(id pool.SnapshotID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rec.Head = id
}

// diedWithin records that the VMM ended while a request was under way.
func (b *box) diedWithin(ctx context.Context, err error) {
	reason := err.Error()
	if l := b.take(); l != nil {
		reason = l.VM.Exit().Reason
	}
	b.settle(ctx, lifecycle.Failed, reason)
}

// discard removes everything that the host has of a sandbox. The record goes
// last, so that a crash leaves one as long as it leaves anything. It is
// idempotent.
func (m *Manager) discard(ctx context.Context, id ID) error {
	if err := m.Machines.Discard(ctx, pool.MachineID(id)); err != nil {
		return err
	}
	snaps, err := history.History{Pool: m.Machines.Pool, ID: string(id)}.All()
	if err != nil {
		return err
	}
	for _, s := range snaps {
		if err := m.Machines.Pool.RemoveSnapshot(ctx, s.ID); err != nil {
			return err
		}
	}
	return m.Store.Delete(ctx, id)
}
