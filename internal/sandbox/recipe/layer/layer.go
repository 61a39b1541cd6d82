// Package layer keeps what builds have made so far: the snapshot of a machine
// behind each stretch of steps, under the key of that.
//
// A layer is a snapshot like any other, which says in its signed manifest what
// it is; so there is no list beside the pool that could differ from it. How many
// there are is bounded, and how long one is kept that nobody uses. Templates do
// not need them: what is removed costs the next build time.
//
// layer must not know how steps are carried out. A Shelf is safe for concurrent
// use.
package layer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/recipe"
)

// Cause marks the snapshots that are layers.
const Cause = "layer"

// The labels of a layer.
const (
	labelKey      = "layer"
	labelDefaults = "defaults"
)

const (
	// keep is how many layers there are at most, keepFor how long one is kept
	// that nobody uses.
	keep    = 100
	keepFor = 7 * 24 * time.Hour
	// idle is how long nobody has used a layer of which nobody is about to make
	// a machine.
	idle = 10 * time.Minute
)

// Pool is where snapshots are.
type Pool interface {
	Snapshots() ([]pool.Snapshot, error)
	RemoveSnapshot(ctx context.Context, id pool.SnapshotID) error
}

// Shelf is where layers are kept.
type Shelf struct {
	Pool  Pool
	Clock func() time.Time

	mu sync.Mutex
	// used is when a layer was used last, as far as this daemon knows; guarded
	// by mu.
	used map[pool.SnapshotID]time.Time
}

// Layer is what was kept.
type Layer struct {
	Snapshot pool.SnapshotID
	// Defaults is what holds after its steps.
	Defaults recipe.Defaults
}

// Meta describes a snapshot that is to be a layer.
func Meta(key string, d recipe.Defaults, size live.Size) (pool.Meta, error) {
	holds, err := json.Marshal(d)
	if err != nil {
		return pool.Meta{}, fmt.Errorf("encode defaults: %w", err)
	}
	return pool.Meta{
		Cause: Cause, CPUs: size.CPUs, MemoryMiB: size.MemoryMiB,
		Labels: map[string]string{labelKey: key, labelDefaults: string(holds)},
	}, nil
}

// Find returns the newest layer of a key that a VMM of these facts can load.
func (s *Shelf) Find(key string, facts map[string]string) (l Layer, found bool, err error) {
	all, err := s.Pool.Snapshots()
	if err != nil {
		return l, false, err
	}
	for _, snap := range slices.Backward(all) {
		if snap.Cause != Cause || snap.Labels[labelKey] != key || !same(snap.Version, facts) {
			continue
		}
		if json.Unmarshal([]byte(snap.Labels[labelDefaults]), &l.Defaults) != nil {
			continue // of a release that wrote it otherwise
		}
		l.Snapshot = snap.ID
		s.touch(snap.ID)
		return l, true, nil
	}
	return l, false, nil
}

func same(a, b map[string]string) bool {
	for name, value := range b {
		if a[name] != value {
			return false
		}
	}
	return true
}

// Put is called for a layer that was made: those that it replaces go, unless
// somebody may be about to make a machine of one.
func (s *Shelf) Put(ctx context.Context, made pool.Snapshot) error {
	s.touch(made.ID)
	all, err := s.Pool.Snapshots()
	if err != nil {
		return err
	}
	var errs []error
	for _, old := range all {
		if old.Cause == Cause && old.ID != made.ID && old.Labels[labelKey] == made.Labels[labelKey] && s.Clock().Sub(s.last(old)) > idle {
			errs = append(errs, s.remove(ctx, old.ID))
		}
	}
	return errors.Join(append(errs, s.Sweep(ctx))...)
}

func (s *Shelf) touch(id pool.SnapshotID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used == nil {
		s.used = map[pool.SnapshotID]time.Time{}
	}
	s.used[id] = s.Clock()
}

func (s *Shelf) remove(ctx context.Context, id pool.SnapshotID) error {
	s.mu.Lock()
	delete(s.used, id)
	s.mu.Unlock()
	return s.Pool.RemoveSnapshot(ctx, id)
}

// Sweep removes the layers that are too old or too many.
func (s *Shelf) Sweep(ctx context.Context) error { return s.trim(ctx, keep) }

// Clear removes all layers: the pool needs their room.
func (s *Shelf) Clear(ctx context.Context) error { return s.trim(ctx, 0) }

func (s *Shelf) trim(ctx context.Context, most int) error {
	all, err := s.Pool.Snapshots()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(snap pool.Snapshot) bool { return snap.Cause != Cause })
	slices.SortStableFunc(all, func(a, b pool.Snapshot) int { return s.last(b).Compare(s.last(a)) })
	oldest := s.Clock().Add(-keepFor)
	var errs []error
	for i, snap := range all {
		if i >= most || s.last(snap).Before(oldest) {
			errs = append(errs, s.remove(ctx, snap.ID))
		}
	}
	return errors.Join(errs...)
}

// last is when a layer was used last.
func (s *Shelf) last(snap pool.Snapshot) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.used[snap.ID]; ok {
		return at
	}
	return snap.Created
}
