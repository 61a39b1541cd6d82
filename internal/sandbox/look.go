package sandbox

import (
	"context"

	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/look"
)

// Look brings a snapshot of a sandbox up as a machine of its own, that is only
// looked into. In one that is frozen nothing runs but the agent. The caller
// closes it.
func (m *Manager) Look(ctx context.Context, ref, snapRef string, frozen bool) (*look.Look, error) {
	b, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	s, err := b.history().Find(snapRef)
	if err != nil {
		return nil, err
	}
	return m.look(ctx, s, frozen)
}

// LookNow is Look at what a sandbox that does not run was when it ran last. One
// that runs needs no other machine: nil.
func (m *Manager) LookNow(ctx context.Context, ref string) (*look.Look, error) {
	b, err := m.find(ref)
	if err != nil || b.record().State != lifecycle.Paused {
		return nil, err
	}
	s, err := m.Machines.Pool.Snapshot(b.record().Head)
	if err != nil {
		return nil, err
	}
	return m.look(ctx, s, true)
}

func (m *Manager) look(ctx context.Context, s pool.Snapshot, frozen bool) (*look.Look, error) {
	if err := m.loadable(ctx, s); err != nil {
		return nil, err
	}
	return look.Looker{Machines: m.Machines}.Open(ctx, s, frozen)
}
