package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/lease"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/name"
)

// maxForks is how many sandboxes one call makes.
const maxForks = 100

// ForkSpec says what forks to make.
type ForkSpec struct {
	// Snapshot is the moment, by id, prefix or name; "" is now.
	Snapshot string
	// Count is how many, 1 to 100.
	Count int
	// Name is a DNS label, to which numbers are added if there are several; ""
	// makes names up.
	Name string
	// Lease is how a client has them; nil for as long as it likes.
	Lease *lease.Lease
	// Partial keeps those that come to be when others do not.
	Partial bool
}

// Fork makes new sandboxes from one moment of another, side by side. Each has
// an identity of its own and may talk to what the other may; a source that
// runs goes on. On error there is none of them; with spec.Partial, errs has one
// for each, nil where made has a sandbox.
func (m *Manager) Fork(ctx context.Context, ref string, spec ForkSpec) (made []Record, errs []error, err error) {
	source, err := m.find(ref)
	if err != nil {
		return nil, nil, err
	}
	if spec.Count < 1 || spec.Count > maxForks {
		return nil, nil, fault.New(fault.Invalid, "%d forks at once are not 1 to %d", spec.Count, maxForks)
	}
	snap, drop, err := m.forkPoint(ctx, source, spec.Snapshot)
	if err != nil {
		return nil, nil, err
	}
	defer drop()
	if err := m.loadable(ctx, snap); err != nil {
		return nil, nil, err
	}
	forks, err := m.reserveForks(source, spec)
	if err != nil {
		return nil, nil, err
	}
	return m.forkAll(ctx, source, birth{from: snap.ID, origin: source.record().ID}, offspring{forks, spec.Partial})
}

// forkPoint returns the snapshot that forks start from. drop removes it if it
// was taken for them.
func (m *Manager) forkPoint(ctx context.Context, source *box, ref string) (snap pool.Snapshot, drop func(), err error) {
	drop = func() {}
	rec := source.record()
	switch {
	case ref != "":
		snap, err = source.named(ctx, ref)
	case rec.State == lifecycle.Paused:
		snap, err = m.Machines.Pool.Snapshot(rec.Head)
	default:
		err = source.do(ctx, lifecycle.Snapshot, func(ctx context.Context) (err error) {
			snap, err = source.snapshot(ctx, source.meta("", causeFork))
			return err
		})
		drop = func() {
			if err == nil {
				m.dropForkPoint(source, snap.ID)
			}
		}
	}
	return snap, drop, err
}

// dropForkPoint removes a snapshot that is of no more use.
func (m *Manager) dropForkPoint(source *box, id pool.SnapshotID) {
	err := source.do(m.life, lifecycle.Prune, func(ctx context.Context) error {
		s, err := m.Machines.Pool.Snapshot(id)
		if err != nil {
			return err
		}
		return source.drop(ctx, s)
	})
	if err != nil {
		source.log.Warn("snapshot of a fork stays", "snapshot", string(id), "err", err)
	}
}

func (m *Manager) reserveForks(source *box, spec ForkSpec) (forks []*box, err error) {
	from := source.record()
	for i := range spec.Count {
		as := name.Numbered(spec.Name, from.Name, i, spec.Count)
		err := name.Check("sandbox", as)
		var b *box
		if err == nil {
			b, err = m.reserve(Record{
				Team: from.Team, Name: as, Template: from.Template, Size: from.Size, DiskMiB: from.DiskMiB,
				Identity: from.Identity, Metadata: from.Metadata, Lease: spec.Lease, Asked: from.Asked, Ingress: from.Ingress,
			})
		}
		if err != nil {
			for _, b := range forks {
				m.giveUp(b)
			}
			return nil, err
		}
		forks = append(forks, b)
	}
	return forks, nil
}

// offspring are forks that are about to be.
type offspring struct {
	forks   []*box
	partial bool
}

// forkAll starts all forks, or leaves none unless some are enough.
func (m *Manager) forkAll(ctx context.Context, source *box, by birth, o offspring) (made []Record, errs []error, err error) {
	ctx, cancel := m.underLife(ctx)
	defer cancel()
	errs, made = make([]error, len(o.forks)), make([]Record, len(o.forks))
	var all sync.WaitGroup
	for i, b := range o.forks {
		all.Go(func() {
			if errs[i] = b.create(ctx, by); errs[i] != nil && !o.partial {
				cancel()
			}
		})
	}
	all.Wait()
	if !o.partial {
		err = errors.Join(errs...)
	}
	for i, b := range o.forks {
		if errs[i] != nil {
			m.giveUp(b)
			continue
		}
		m.own(b)
		if err != nil {
			b.do(m.life, lifecycle.Remove, b.remove) // what it leaves, the next start finds
			continue
		}
		made[i] = b.record()
		m.Events.Append(ctx, "sandbox.forked", string(source.record().ID), map[string]string{
			"fork": string(b.record().ID), "name": b.record().Name, "snapshot": string(by.from),
		})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("fork sandbox %s: %w", source.record().Name, err)
	}
	return made, errs, nil
}
