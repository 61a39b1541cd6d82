package sandbox

import (
	"context"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/history"
	"bulkhead/internal/sandbox/lifecycle"
)

// Timeline returns a sandbox and its snapshots, oldest first. The tree is in
// their parents; a parent that is not among them has been removed, or is the
// template.
func (m *Manager) Timeline(ref string) (Sandbox, []pool.Snapshot, error) {
	b, err := m.find(ref)
	if err != nil {
		return Sandbox{}, nil, err
	}
	snaps, err := b.history().All()
	return b.view(), snaps, err
}

// RemoveSnapshot removes one snapshot of a sandbox. The others and the
// machine are not touched: files share blocks, not names.
func (m *Manager) RemoveSnapshot(ctx context.Context, ref, snapRef string) error {
	b, err := m.find(ref)
	if err != nil {
		return err
	}
	s, err := b.history().Find(snapRef)
	if err != nil {
		return err
	}
	return b.do(ctx, lifecycle.Prune, func(ctx context.Context) error {
		if rec := b.record(); rec.State == lifecycle.Paused && rec.Head == s.ID {
			return fault.New(fault.WrongState, "snapshot %s is what sandbox %s is paused into", s.ID, rec.Name).Hint("%s", wayBack(rec))
		}
		return b.drop(ctx, s)
	})
}

// drop removes a snapshot of b, and has the timeline go on as if it had not
// been. The record is first: it must not send a crashed machine to what is gone.
// Only the owner calls it.
func (b *box) drop(ctx context.Context, s pool.Snapshot) error {
	if b.record().Head == s.ID {
		before, err := b.history().Before(s)
		if err != nil {
			return err
		}
		if err := b.change(ctx, func(r *Record) { r.Head = before }); err != nil {
			return err
		}
	}
	return b.m.Machines.Pool.RemoveSnapshot(ctx, s.ID)
}

// history is the snapshots of b.
func (b *box) history() history.History {
	rec := b.record()
	return history.History{Pool: b.m.Machines.Pool, ID: string(rec.ID), Name: rec.Name}
}
