package sandbox

import (
	"context"
	"sync"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/capacity"
	"bulkhead/internal/sandbox/lifecycle"
)

// A machine that writes to its disk or memory takes room in the pool, and a
// pool that is really full is the end of machines: the kernel kills a VMM
// whose memory file cannot grow (SIGBUS). So all machines are held before it
// comes to that, and go on by themselves once there is room.
const (
	// roomEvery is how often is looked. It costs two system calls.
	roomEvery = 100 * time.Millisecond

	// heldReason is why a machine is held, for its user.
	heldReason = "the pool is full: it goes on once there is room"
)

// guardRoom holds and releases machines until the manager ends.
func (m *Manager) guardRoom() {
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-m.life.Done():
			return
		}
		u, err := m.Machines.Pool.Usage()
		switch {
		case err != nil:
			m.Log.ErrorContext(m.life, "pool does not say how full it is", "err", err)
		case u.Free < capacity.Floor:
			m.each(lifecycle.Running, lifecycle.Hold, (*box).hold)
		case u.Free > capacity.Enough:
			m.each(lifecycle.Held, lifecycle.Release, (*box).release)
		}
	}
}

// each applies an event to all sandboxes in a state, side by side. One that
// has left the state meanwhile refuses, which is fine.
func (m *Manager) each(in lifecycle.State, event lifecycle.Event, do func(*box, context.Context) error) {
	var all sync.WaitGroup
	for _, b := range m.list() {
		if b.record().State != in {
			continue
		}
		all.Go(func() {
			err := b.do(m.life, event, func(ctx context.Context) error { return do(b, ctx) })
			if err != nil && !fault.Is(err, fault.WrongState) && m.life.Err() == nil {
				b.log.ErrorContext(m.life, "machine not "+string(event), "err", err)
			}
		})
	}
	all.Wait()
}

func (b *box) hold(ctx context.Context) error {
	if l := b.machine(); l != nil {
		return l.VM.Stop(ctx)
	}
	return nil
}

func (b *box) release(ctx context.Context) error {
	if l := b.machine(); l != nil {
		return l.VM.Continue(ctx)
	}
	return nil
}
