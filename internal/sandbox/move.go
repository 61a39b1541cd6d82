package sandbox

import (
	"context"
	"errors"
	"fmt"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/name"
)

// causeImport is of the first snapshot of a sandbox that came from elsewhere.
const causeImport = "import"

// Export calls f with the files of one moment of a sandbox, now or a snapshot,
// and what that is. A sandbox that runs goes on.
func (m *Manager) Export(ctx context.Context, ref, snapRef string, f func(dir string, s pool.Snapshot) error) error {
	b, err := m.find(ref)
	if err != nil {
		return err
	}
	snap, drop, err := m.forkPoint(ctx, b, snapRef)
	if err != nil {
		return err
	}
	defer drop()
	err = m.Machines.Pool.Read(ctx, snap.ID, func(dir string) error { return f(dir, snap) })
	return b.about("export", err)
}

// Fits says why a machine that can be loaded by that version cannot be loaded
// here; nil if it can.
func (m *Manager) Fits(ctx context.Context, version map[string]string) error {
	v, err := m.Machines.Driver.Version(ctx)
	if err != nil {
		return err
	}
	for key, want := range live.Facts(v) {
		if got := version[key]; got != want {
			return fault.New(fault.Unsupported, "it was made with %s %.60q, this host has %q", key, got, want).
				Hint("run the daemon with what it was made with")
		}
	}
	return nil
}

// Cargo is what a sandbox is made of that comes from elsewhere.
type Cargo struct {
	// Fill lays down the files that Export has shown.
	Fill func(dir string) error
	// Ready is called before the machine runs.
	Ready func(ID) error
}

// Import makes a sandbox of what comes from elsewhere. It has an identity of its
// own. On error nothing of it is left.
func (m *Manager) Import(ctx context.Context, rec Record, c Cargo) (Record, error) {
	if err := errors.Join(name.Check("sandbox", rec.Name), name.CheckVariables(rec.Identity.Env, rec.Metadata)); err != nil {
		return Record{}, err
	}
	b, err := m.reserve(rec)
	if err != nil {
		return Record{}, err
	}
	ctx, cancel := m.underLife(ctx)
	defer cancel()
	if err := m.importInto(ctx, b, c); err != nil {
		m.giveUp(b)
		return Record{}, fmt.Errorf("import sandbox %s: %w", rec.Name, err)
	}
	m.own(b)
	return b.record(), nil
}

func (m *Manager) importInto(ctx context.Context, b *box, c Cargo) error {
	rec := b.record()
	err := m.Store.Save(ctx, rec)
	if err != nil {
		return err
	}
	snap, err := m.Machines.Pool.Receive(ctx, c.Fill, func(meta *pool.Meta) {
		meta.Sandbox, meta.Name, meta.Parent, meta.Cause = string(rec.ID), "", "", causeImport
	})
	if err == nil {
		err = m.Fits(ctx, snap.Version)
	}
	if err == nil {
		b.mu.Lock()
		b.rec.Size, b.rec.DiskMiB, b.rec.Head = live.Size{CPUs: snap.CPUs, MemoryMiB: snap.MemoryMiB}, int(snap.DiskBytes>>20), snap.ID
		b.mu.Unlock()
		err = errors.Join(m.RoomFor(b.record().Size), c.Ready(rec.ID))
	}
	if err != nil {
		return errors.Join(err, m.discard(context.WithoutCancel(ctx), rec.ID))
	}
	return b.create(ctx, birth{from: snap.ID})
}
