package sandbox

import (
	"context"
	"fmt"

	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/live"
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
	s, err := b.named(ctx, snapRef)
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
	ended, err := m.admitLook(s)
	if err != nil {
		return nil, fmt.Errorf("bring up snapshot %s: %w", s.ID, err)
	}
	return look.Looker{Machines: m.Machines, Ended: ended}.Open(ctx, s, frozen)
}

// admitLook counts a machine that looks into a snapshot, until ended, if the host
// has room for it.
func (m *Manager) admitLook(s pool.Snapshot) (ended func(), err error) {
	size := live.Size{CPUs: s.CPUs, MemoryMiB: s.MemoryMiB}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.Limits.Start(m.taken(), size); err != nil {
		return nil, err
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.looks.Leave(s.Sandbox, size)
	}, m.looks.Enter(s.Sandbox, size)
}
