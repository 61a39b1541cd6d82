// Package history is the snapshots of one sandbox: which there are, which one
// is meant, and which may go.
//
// The pool knows all snapshots and whose they are; history finds among them.
// It must not know machines that run. A History is a value and safe for
// concurrent use.
package history

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/pool/reflink"
	"bulkhead/internal/sandbox/name"
	"bulkhead/internal/sandbox/schedule"
)

// History is the snapshots of the sandbox of an id. Name is for messages.
type History struct {
	Pool *pool.Pool
	ID   string
	Name string
}

// All lists the snapshots, oldest first.
func (h History) All() ([]pool.Snapshot, error) {
	all, err := h.Pool.Snapshots()
	return slices.DeleteFunc(all, func(s pool.Snapshot) bool { return s.Sandbox != h.ID }), err
}

// Find returns the snapshot that ref names: an id, a name, or a prefix of an id
// that fits no other.
func (h History) Find(ref string) (pool.Snapshot, error) {
	snaps, err := h.All()
	if err != nil {
		return pool.Snapshot{}, err
	}
	fits := name.Pick(ref, snaps, func(s pool.Snapshot) (string, string) { return string(s.ID), s.Name })
	switch len(fits) {
	case 1:
		return fits[0], nil
	case 0:
		// A damaged manifest does not say whose it is; whoever names it by its
		// id is told about the damage.
		if _, err := h.Pool.Snapshot(pool.SnapshotID(ref)); fault.Is(err, fault.Corrupt) {
			return pool.Snapshot{}, err
		}
		return pool.Snapshot{}, fault.New(fault.NotFound, "snapshot %q is not in the timeline of sandbox %s", name.Clip(ref), h.Name).
			Hint("bulkhead timeline %s", h.Name)
	}
	return pool.Snapshot{}, fault.New(fault.Invalid, "snapshot prefix %q fits %d snapshots", ref, len(fits)).
		Hint("bulkhead timeline %s", h.Name)
}

// Limits bound a history.
type Limits interface {
	// Snapshot refuses one more if there are so many, Room if so many bytes of the
	// pool are taken.
	Snapshot(have int) error
	Room(has func() (taken int64, err error)) error
}

// Admit refuses a snapshot of a machine beyond limits.
func (h History) Admit(ctx context.Context, limits Limits, machine pool.MachineID) error {
	snaps, err := h.All()
	if err != nil {
		return err
	}
	if err := limits.Snapshot(len(snaps)); err != nil {
		return err
	}
	return limits.Room(func() (int64, error) { return h.taken(ctx, snaps, machine) })
}

// taken is what a machine and its snapshots hold of the pool together, in bytes:
// also what they share with what they were made from.
func (h History) taken(ctx context.Context, snaps []pool.Snapshot, machine pool.MachineID) (int64, error) {
	files, err := h.Pool.Machine(machine)
	if err != nil {
		return 0, err
	}
	paths := []string{files.Memory, files.Disk}
	for _, s := range snaps {
		err := h.Pool.Read(ctx, s.ID, func(dir string) error {
			paths = append(paths, filepath.Join(dir, filepath.Base(files.Memory)), filepath.Join(dir, filepath.Base(files.Disk)))
			return nil
		})
		if err != nil && !fault.Is(err, fault.Corrupt) { // one that is damaged is to be removed
			return 0, err
		}
	}
	return reflink.Union(ctx, paths...)
}

// CheckName returns an error unless a new snapshot may be called that; "" is no
// name.
func (h History) CheckName(snapshot string) error {
	if snapshot == "" {
		return nil
	}
	if err := name.Check("snapshot", snapshot); err != nil {
		return err
	}
	snaps, err := h.All()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(snaps, func(s pool.Snapshot) bool { return s.Name == snapshot }) {
		return fault.New(fault.Exists, "sandbox %s has a snapshot %s already", h.Name, snapshot).
			Hint("choose another name: bulkhead timeline %s", h.Name)
	}
	return nil
}

// Thin removes the snapshots of a cause that have no name and are not to be
// kept. Head, which the machine goes on from, stays.
func (h History) Thin(ctx context.Context, cause string, keep schedule.Keep, head pool.SnapshotID) error {
	snaps, err := h.All()
	if err != nil {
		return err
	}
	snaps = slices.DeleteFunc(snaps, func(s pool.Snapshot) bool { return s.Cause != cause || s.Name != "" })
	taken := make([]time.Time, len(snaps))
	for i, s := range snaps {
		taken[i] = s.Created
	}
	for _, i := range keep.Surplus(taken) {
		if snaps[i].ID == head {
			continue
		}
		if err := h.Pool.RemoveSnapshot(ctx, snaps[i].ID); err != nil {
			return err
		}
	}
	return nil
}

// Supersede removes the unnamed snapshots of the cause of s that s goes on from:
// it has all that they were for. Others of that cause were left by rollbacks; of
// these the latest stay, so many.
func (h History) Supersede(ctx context.Context, s pool.Snapshot, most int) error {
	snaps, err := h.All()
	if err != nil {
		return err
	}
	byID := map[pool.SnapshotID]pool.Snapshot{}
	for _, one := range snaps {
		byID[one.ID] = one
	}
	before := map[pool.SnapshotID]bool{}
	for id := s.Parent; !before[id]; id = byID[id].Parent {
		before[id] = true
	}
	left := 0
	for _, one := range slices.Backward(snaps) {
		if one.Cause != s.Cause || one.Name != "" || one.ID == s.ID {
			continue
		}
		if !before[one.ID] {
			if left++; left <= most {
				continue
			}
		}
		if err := h.Pool.RemoveSnapshot(ctx, one.ID); err != nil {
			return err
		}
	}
	return nil
}

// Before returns the snapshot that s goes on from, "" if it has been removed or
// is none of this sandbox.
func (h History) Before(s pool.Snapshot) (pool.SnapshotID, error) {
	snaps, err := h.All()
	if slices.ContainsFunc(snaps, func(one pool.Snapshot) bool { return one.ID == s.Parent }) {
		return s.Parent, err
	}
	return "", err
}

// Latest is when the newest snapshot was taken; zero if there is none.
func (h History) Latest() (time.Time, error) {
	snaps, err := h.All()
	if err != nil || len(snaps) == 0 {
		return time.Time{}, err
	}
	return snaps[len(snaps)-1].Created, nil
}
