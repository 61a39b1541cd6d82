package sandbox

import (
	"context"
	"slices"
	"strings"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
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
	snaps, err := m.snapshotsOf(b.record().ID)
	return b.view(), snaps, err
}

// RemoveSnapshot removes one snapshot of a sandbox. The others and the
// machine are not touched: files share blocks, not names.
func (m *Manager) RemoveSnapshot(ctx context.Context, ref, snapRef string) error {
	b, err := m.find(ref)
	if err != nil {
		return err
	}
	s, err := m.findSnapshot(b, snapRef)
	if err != nil {
		return err
	}
	return b.do(ctx, lifecycle.Prune, func(ctx context.Context) error {
		return m.Machines.Pool.RemoveSnapshot(ctx, s.ID)
	})
}

// snapshotsOf lists a sandbox's snapshots, oldest first.
func (m *Manager) snapshotsOf(id ID) ([]pool.Snapshot, error) {
	all, err := m.Machines.Pool.Snapshots()
	return slices.DeleteFunc(all, func(s pool.Snapshot) bool { return s.Sandbox != string(id) }), err
}

// findSnapshot returns the snapshot in b's timeline that ref names: an id, a
// name, or a prefix of an id that fits no other.
func (m *Manager) findSnapshot(b *box, ref string) (pool.Snapshot, error) {
	rec := b.record()
	snaps, err := m.snapshotsOf(rec.ID)
	if err != nil {
		return pool.Snapshot{}, err
	}
	var fits []pool.Snapshot
	for _, s := range snaps {
		if ref == string(s.ID) || ref == s.Name {
			return s, nil
		}
		if ref != "" && strings.HasPrefix(string(s.ID), ref) {
			fits = append(fits, s)
		}
	}
	switch len(fits) {
	case 1:
		return fits[0], nil
	case 0:
		// A damaged manifest does not say whose it is; whoever names it by its
		// id is told about the damage.
		if _, err := m.Machines.Pool.Snapshot(pool.SnapshotID(ref)); fault.Is(err, fault.Corrupt) {
			return pool.Snapshot{}, err
		}
		return pool.Snapshot{}, fault.New(fault.NotFound, "snapshot %q is not in the timeline of sandbox %s", clip(ref), rec.Name).
			Hint("bulkhead timeline %s", rec.Name)
	}
	return pool.Snapshot{}, fault.New(fault.Invalid, "snapshot prefix %q fits %d snapshots", ref, len(fits)).
		Hint("bulkhead timeline %s", rec.Name)
}

func (m *Manager) checkSnapshotName(b *box, name string) error {
	if name == "" {
		return nil
	}
	if err := CheckName("snapshot", name); err != nil {
		return err
	}
	rec := b.record()
	snaps, err := m.snapshotsOf(rec.ID)
	if err != nil {
		return err
	}
	for _, s := range snaps {
		if s.Name == name {
			return fault.New(fault.Exists, "sandbox %s has a snapshot %s already", rec.Name, name).
				Hint("choose another name: bulkhead timeline %s", rec.Name)
		}
	}
	return nil
}
