package sandbox

import (
	"context"
	"sync"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/room"
)

// guardRoom holds and releases machines until the manager ends.
func (m *Manager) guardRoom() {
	var guard room.Guard
	tick := time.NewTicker(room.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-m.life.Done():
			return
		}
		u, err := m.Machines.Pool.Usage()
		if err != nil {
			m.Log.ErrorContext(m.life, "pool does not say how full it is", "err", err)
			continue
		}
		next := guard.Look(u.Free, m.writers())
		var all sync.WaitGroup
		for id, why := range next.Hold {
			all.Go(func() { m.still(id, job{event: lifecycle.Hold, reason: why}, (*box).hold) })
		}
		for _, id := range next.Release {
			m.owners.Go(func() { m.still(id, job{event: lifecycle.Release}, (*box).release) }) // its agent may be slow
		}
		all.Wait()
	}
}

// writers lists the machines that run, and those that are held.
func (m *Manager) writers() (all []room.Machine) {
	for _, b := range m.list() {
		if s := b.view(); s.PID != 0 && (s.State == lifecycle.Running || s.State == lifecycle.Held) {
			all = append(all, room.Machine{ID: string(s.ID), PID: s.PID, Held: s.State == lifecycle.Held})
		}
	}
	return all
}

// still holds or releases a machine. One that has left its state meanwhile
// refuses, which is fine.
func (m *Manager) still(id string, j job, act func(*box, context.Context) error) {
	b, err := m.find(id)
	if err != nil {
		return // it is gone
	}
	j.run = func(ctx context.Context) error { return act(b, ctx) }
	if err := b.hand(m.life, j); err != nil && !fault.Is(err, fault.WrongState) && m.life.Err() == nil {
		b.log.ErrorContext(m.life, "machine not "+string(j.event), "err", err)
	}
}

func (b *box) hold(ctx context.Context) error { return b.machine().VM.Stop(ctx) }

// release has a machine go on. Its clock stood still too.
func (b *box) release(ctx context.Context) error {
	return b.m.Machines.Wake(ctx, b.machine(), b.record().Size)
}
