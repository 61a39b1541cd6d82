package sandbox

import (
	"context"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/room"
)

// guardRoom holds and releases machines until the manager ends.
func (m *Manager) guardRoom() {
	tick := time.NewTicker(room.Every)
	defer tick.Stop()
	room.Watch(m.life, tick.C, held{m}, m.Log)
}

// held is the sandboxes as who guards the pool sees them.
type held struct{ *Manager }

// Free implements room.Machines.
func (h held) Free() (int64, error) {
	u, err := h.Machines.Pool.Usage()
	return u.Free, err
}

// Writers implements room.Machines.
func (h held) Writers() (all []room.Machine) {
	for _, b := range h.list() {
		if s := b.view(); s.PID != 0 && (s.State == lifecycle.Running || s.State == lifecycle.Held) {
			all = append(all, room.Machine{ID: string(s.ID), PID: s.PID, Held: s.State == lifecycle.Held})
		}
	}
	return all
}

// Hold implements room.Machines.
func (h held) Hold(id, why string) error {
	return h.still(id, job{event: lifecycle.Hold, reason: why}, (*box).hold)
}

// Release implements room.Machines.
func (h held) Release(id string) error {
	return h.still(id, job{event: lifecycle.Release}, (*box).release)
}

// still holds or releases a machine. One that has left its state meanwhile
// refuses, which is fine.
func (h held) still(id string, j job, act func(*box, context.Context) error) error {
	b, err := h.find(id)
	if err != nil {
		return nil // it is gone
	}
	j.run = func(ctx context.Context) error { return act(b, ctx) }
	if err := b.hand(h.life, j); !fault.Is(err, fault.WrongState) {
		return err
	}
	return nil
}

func (b *box) hold(ctx context.Context) error { return b.machine().VM.Stop(ctx) }

// release has a machine go on. Its clock stood still too.
func (b *box) release(ctx context.Context) error {
	return b.m.Machines.Wake(ctx, b.machine(), b.record().Size)
}
