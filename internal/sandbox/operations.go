package sandbox

import (
	"context"
	"fmt"
	"os"
	"time"

	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/unwind"
)

// Causes of snapshots.
const (
	CauseManual   = "manual"
	CauseTemplate = "template"
)

// create makes the machine of a new sandbox from a template and starts it.
// On error nothing of it is left.
func (b *box) create(ctx context.Context, from pool.SnapshotID) (err error) {
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
	if err := b.m.Journal.Begin(ctx, string(rec.ID), b.m.runDir(string(rec.ID))); err != nil {
		return err
	}
	if _, err := b.m.Pool.NewMachine(ctx, pool.MachineID(rec.ID), from); err != nil {
		return err
	}
	l, err := b.load(ctx, true)
	if err != nil {
		return err
	}
	b.put(l)
	b.settle(ctx, lifecycle.Started, "")
	return nil
}

// load starts the machine from the state that its files came with. A machine
// that is new takes on its identity; one that comes back has it already.
func (b *box) load(ctx context.Context, anew bool) (*live, error) {
	rec := b.record()
	files, spec, err := b.m.prepareRun(rec)
	if err != nil {
		return nil, err
	}
	if anew {
		return b.m.restore(ctx, spec, files.State, rec.Identity.proto())
	}
	return b.m.restore(ctx, spec, files.State, nil)
}

// snapshot takes a snapshot of the running machine, which goes on.
func (b *box) snapshot(ctx context.Context, name, cause string) (snap pool.Snapshot, err error) {
	defer func() {
		if err == nil {
			b.settle(ctx, lifecycle.Ended, "")
			return
		}
		if l := b.machine(); l != nil && !ended(l) {
			b.settle(ctx, lifecycle.Ended, "")
			return
		}
		b.diedWithin(ctx, err)
	}()
	rec := b.record()
	if _, err := b.guest(ctx); err != nil {
		return snap, err
	}
	snap, at, err := b.m.take(ctx, b.machine(), b.poolID(), pool.Meta{
		Sandbox: string(rec.ID), Name: name, Parent: rec.Head, Cause: cause,
		CPUs: rec.CPUs, MemoryMiB: rec.MemoryMiB,
	})
	if err != nil {
		return snap, fmt.Errorf("snapshot sandbox %s: %w", rec.Name, err)
	}
	b.setHead(snap.ID)
	b.log.InfoContext(ctx, "snapshot taken", "snapshot", string(snap.ID), "stopped", at.Stopped, "frozen", at.Frozen)
	b.m.Events.Append(ctx, "snapshot.taken", rec.ID, map[string]string{
		"snapshot": string(snap.ID), "name": name, "cause": cause, "stopped": at.Stopped.String(),
	})
	return snap, nil
}

// take flushes, captures and commits one moment of a machine.
func (m *Manager) take(ctx context.Context, l *live, id pool.MachineID, meta pool.Meta) (snap pool.Snapshot, at stoppedMoment, err error) {
	draft, err := m.Pool.Begin(ctx, id)
	if err != nil {
		return snap, at, err
	}
	defer func() {
		if derr := draft.Discard(context.WithoutCancel(ctx)); derr != nil {
			m.Log.WarnContext(ctx, "snapshot draft not discarded", "err", derr)
		}
	}()
	if err := m.flush(ctx, l, id); err != nil {
		return snap, at, err
	}
	if at, err = m.capture(ctx, l, draft); err != nil {
		return snap, at, err
	}
	version, err := m.Driver.Version(ctx)
	if err != nil {
		return snap, at, err
	}
	meta.Created, meta.Stopped, meta.Version = m.Clock(), at.Stopped, versionMap(version)
	snap, err = draft.Commit(ctx, meta)
	return snap, at, err
}

// rollback puts the machine back to snap, in place. The VMM ends; what the
// machine was since its last snapshot is lost.
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
	if _, err := b.m.Pool.Rollback(ctx, b.poolID(), snap.ID); err != nil {
		return 0, err
	}
	l, err := b.load(ctx, false)
	if err != nil {
		return 0, err
	}
	took = b.m.Clock().Sub(began)
	b.put(l)
	b.setHead(snap.ID)
	b.settle(ctx, lifecycle.Started, "")
	b.m.Events.Append(ctx, "sandbox.rolled_back", rec.ID, map[string]string{"snapshot": string(snap.ID), "took": took.String()})
	return took, nil
}

// start boots the machine from its disk as it is: after a power-off, a crash
// or a reboot. What was only in memory is lost.
func (b *box) start(ctx context.Context) (err error) {
	rec := b.record()
	defer func() {
		if err != nil {
			err = fmt.Errorf("start sandbox %s: %w", rec.Name, err)
			b.settle(ctx, lifecycle.Failed, err.Error())
		}
	}()
	_, spec, err := b.m.prepareRun(rec)
	if err != nil {
		return err
	}
	l, err := b.m.boot(ctx, spec, rec.Identity.proto())
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
	if err := b.m.discard(ctx, rec.ID); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", rec.Name, err)
	}
	b.settle(ctx, lifecycle.Removed, "")
	return nil
}

// halt ends the VMM if one runs.
func (b *box) halt(ctx context.Context) error {
	l := b.take()
	if l == nil {
		return nil
	}
	if l.guest != nil {
		l.guest.Close()
	}
	if err := l.vm.Kill(ctx); err != nil {
		return fmt.Errorf("end VMM: %w", err)
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
		reason = l.vm.Exit().Reason
	}
	b.settle(ctx, lifecycle.Failed, reason)
}

func ended(l *live) bool {
	select {
	case <-l.vm.Done():
		return true
	default:
		return false
	}
}

// discard removes everything that the host has of a sandbox, in an order in
// which a crash leaves a record as long as it leaves anything. It is
// idempotent.
func (m *Manager) discard(ctx context.Context, id ID) error {
	if err := m.Driver.Reap(ctx, m.runDir(string(id))); err != nil {
		return fmt.Errorf("end VMM: %w", err)
	}
	if err := os.RemoveAll(m.runDir(string(id))); err != nil {
		return fmt.Errorf("remove run directory: %w", err)
	}
	if err := m.Pool.RemoveMachine(ctx, pool.MachineID(id)); err != nil {
		return err
	}
	snaps, err := m.snapshotsOf(id)
	if err != nil {
		return err
	}
	for _, s := range snaps {
		if err := m.Pool.RemoveSnapshot(ctx, s.ID); err != nil {
			return err
		}
	}
	if err := m.Journal.End(ctx, string(id)); err != nil {
		return err
	}
	return m.Store.Delete(ctx, id)
}
