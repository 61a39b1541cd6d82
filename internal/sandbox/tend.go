package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/lease"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/risk"
	"bulkhead/internal/sandbox/schedule"
)

// SetSchedule changes what is done for a sandbox while nobody looks.
func (m *Manager) SetSchedule(ctx context.Context, ref string, s schedule.Schedule) (Sandbox, error) {
	s, err := s.Normal()
	if err == nil {
		err = risk.Check(s.Before.Commands)
	}
	if err != nil {
		return Sandbox{}, err
	}
	return m.ask(ctx, ref, lifecycle.Adjust, func(b *box, ctx context.Context) error {
		return b.change(ctx, func(r *Record) { r.Schedule = s })
	})
}

// Scheduled is a sandbox with its schedule, and how it is used.
type Scheduled struct {
	Sandbox
	// Asked counts requests to the guest since the daemon was started, Open are
	// those that go on.
	Asked, Open int64
	// Latest is when its newest snapshot was taken; zero for none.
	Latest time.Time
}

// Scheduled lists the sandboxes.
func (m *Manager) Scheduled() []Scheduled {
	var all []Scheduled
	for _, b := range m.list() {
		latest, err := b.latestSnapshot()
		if err != nil {
			b.log.Warn("snapshots are not read", "err", err)
			continue
		}
		all = append(all, Scheduled{Sandbox: b.view(), Asked: b.used.Asked(), Open: b.used.Open(), Latest: latest})
	}
	return all
}

// SetEnd changes when the time of a running sandbox is over. One without a lease
// has one from then on.
func (m *Manager) SetEnd(ctx context.Context, ref string, end lease.End) (Sandbox, error) {
	return m.ask(ctx, ref, lifecycle.Adjust, func(b *box, ctx context.Context) error {
		rec := b.record()
		if rec.State != lifecycle.Running {
			return fault.New(fault.WrongState, "sandbox %s is %s: its time does not run", rec.Name, rec.State)
		}
		l, s, changed := end.Apply(rec.Lease, rec.Schedule, m.Clock())
		if !changed {
			return nil
		}
		return b.change(ctx, func(r *Record) { r.Lease, r.Schedule = l, s })
	})
}

// SetAsked changes what is kept of what a client has asked for.
func (m *Manager) SetAsked(ctx context.Context, ref string, asked json.RawMessage) error {
	_, err := m.ask(ctx, ref, lifecycle.Adjust, func(b *box, ctx context.Context) error {
		return b.change(ctx, func(r *Record) { r.Asked = asked })
	})
	return err
}

// change changes and stores the record. Only the owner calls it.
func (b *box) change(ctx context.Context, f func(*Record)) error {
	b.mu.Lock()
	f(&b.rec)
	rec := b.rec
	b.mu.Unlock()
	return b.m.Store.Save(context.WithoutCancel(ctx), rec) // it is so already
}

// errNotOver is why what is done at the end of a sandbox's time is not done.
var errNotOver = errors.New("its time is not over")

// Expire does what is to be done with a sandbox that has had its time, if it
// still has. That is over then: one that is woken after it runs on. One that is on
// its way, or held, is left for later.
func (m *Manager) Expire(ctx context.Context, ref string) error {
	b, err := m.find(ref)
	if err != nil {
		return err
	}
	over := func(rec Record) error { // at its turn: somebody may ask for more meanwhile
		if rec.Schedule.Expires.IsZero() || m.Clock().Before(rec.Schedule.Expires) {
			return errNotOver
		}
		return nil
	}
	switch rec := b.record(); {
	case over(rec) != nil:
	case rec.Schedule.Expiry == schedule.Remove:
		err = m.removeIf(ctx, b, over)
	case rec.State == lifecycle.Running || rec.State == lifecycle.Suspended:
		spec := PauseSpec{Cold: rec.Lease.EndsCold(), over: true}
		err = b.hand(ctx, job{event: lifecycle.Pause, fits: over, run: func(ctx context.Context) error { return b.pause(ctx, spec) }})
	case rec.State.Down() && rec.State != lifecycle.Held:
		err = b.hand(ctx, job{fits: func(now Record) error {
			if over(now) != nil || now.State != rec.State {
				return nil
			}
			return b.change(ctx, func(r *Record) { r.Schedule = r.Schedule.Endless() })
		}})
	}
	if errors.Is(err, errNotOver) {
		return nil
	}
	return err
}

// latestSnapshot is when the newest snapshot was taken; zero for none. The pool
// is asked once.
func (b *box) latestSnapshot() (time.Time, error) {
	b.mu.Lock()
	known := b.latest
	b.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	at, err := b.history().Latest()
	if err == nil {
		b.took(at)
	}
	return at, err
}

// took notes when a snapshot was taken.
func (b *box) took(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.latest = &at
}

// Use notes that somebody uses a sandbox in a way that is not by Transport,
// until done.
func (m *Manager) Use(ref string) (done func(), err error) {
	b, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	return b.used.Begin(), nil
}

// Why says why a snapshot is taken that nobody names.
type Why struct {
	Cause string
	// What is the one thing that it is for; "" for nothing in particular.
	What string
	// Keep says how many of this cause stay.
	Keep schedule.Keep
}

// SnapshotFor takes a snapshot that nobody names, and removes those of its cause
// that are not to be kept any more.
func (m *Manager) SnapshotFor(ctx context.Context, ref string, why Why) (snap pool.Snapshot, err error) {
	b, err := m.find(ref)
	if err != nil {
		return snap, err
	}
	err = b.do(ctx, lifecycle.Snapshot, func(ctx context.Context) (err error) {
		meta := b.meta("", why.Cause)
		if why.What != "" {
			meta.Labels = map[string]string{pool.LabelWhat: why.What}
		}
		if snap, err = b.snapshot(ctx, meta); err != nil {
			return err
		}
		return b.history().Thin(ctx, why.Cause, why.Keep, snap.ID)
	})
	return snap, err
}
