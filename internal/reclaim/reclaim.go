// Package reclaim looks after sandboxes while nobody looks at them: it takes
// the snapshots that a schedule asks for, removes those that it no longer
// wants, stops machines in which nothing happens, in memory first and on disk
// later, wakes them at their time, and ends what has had its time. Memory that
// a quiet machine does not need is given back before, also by machines that are
// not to be stopped if the host is short of it.
//
// Whether something happens is judged from outside, by what a guest cannot
// make up: the processor time of its VMM, the bytes that the proxy has moved,
// and what is asked of it. A guest can only look busier than it is.
//
// reclaim must not know how any of this is done. A Keeper belongs to one
// goroutine, but End may be called by another.
package reclaim

import (
	"context"
	"log/slog"
	"time"

	"bulkhead/internal/sandbox/schedule"

	"golang.org/x/sync/errgroup"
)

// Every is how often a Keeper should look.
const Every = 10 * time.Second

// EveryEnd is how often a Keeper should look for sandboxes that have had their
// time.
const EveryEnd = time.Second

// atOnce is how many machines are looked after at once: one that does not answer
// takes half a minute, which the others need not wait for, but one that is written
// out has the disk busy.
const atOnce = 4

// idleShare is how much of one CPU the VMM of an idle machine may take. A
// Debian guest at rest takes 0.5 %, measured under a translator.
const idleShare = 0.08

// quietAfter is how long nothing happens in a machine before it gives memory
// back: two looks.
const quietAfter = 2 * Every

// Use is what a machine has done so far. Every number only grows, except Open.
type Use struct {
	// CPU is the processor time of its VMM.
	CPU time.Duration
	// Moved is what the proxy has moved, in bytes.
	Moved int64
	// Asked counts requests to the guest, Open are those that go on.
	Asked int64
	Open  int
}

// Tended is a sandbox, with what is wanted for it.
type Tended struct {
	ID       string
	Schedule schedule.Schedule
	// Running, Suspended and Paused are all false for one that is broken or on
	// its way. Paused is false too for one that is to stay so.
	Running, Suspended, Paused bool
	// Use is what a running machine has done.
	Use Use
	// Snapshot is when the latest of its snapshots was taken; zero for none.
	Snapshot time.Time
}

// Sandboxes is what a Keeper looks after.
type Sandboxes interface {
	// Tended lists all sandboxes.
	Tended(ctx context.Context) []Tended
	// Snapshot takes a scheduled snapshot, and removes those that are not to be
	// kept any more.
	Snapshot(ctx context.Context, id string, keep schedule.Keep) error
	// Balloon has a machine that is quiet give back the memory that it does not
	// need, and have all again otherwise.
	Balloon(ctx context.Context, id string, quiet bool) error
	// Suspend stops a machine in memory, Pause on disk.
	Suspend(ctx context.Context, id string) error
	Pause(ctx context.Context, id string) error
	Wake(ctx context.Context, id string) error
	Ends
}

// Ends is about sandboxes that have had their time.
type Ends interface {
	// Ended lists those that have had it.
	Ended(now time.Time) []string
	// Expire does what is due then, once.
	Expire(ctx context.Context, id string) error
}

// Keeper looks after sandboxes.
type Keeper struct {
	Sandboxes Sandboxes
	Clock     func() time.Time
	Log       *slog.Logger
	// Short reports whether the host is short of memory, or wants it back anyway.
	Short func() bool

	seen map[string]*seen
	// looked is set once all have been looked at.
	looked bool
}

// seen is what is known of a machine.
type seen struct {
	use Use
	at  time.Time
	// busy is when something has happened last; changed is whether something
	// has since the last snapshot.
	busy    time.Time
	changed bool
	// tried is when a snapshot was tried last.
	tried time.Time
	// squeezed is set while it has given memory back; giving while that goes on,
	// which costs it processor time.
	squeezed, giving bool
	// still is set while it is suspended: one that runs after that was woken.
	still bool
}

// Look looks once at every sandbox, and does what is due, for some at once.
func (k *Keeper) Look(ctx context.Context) {
	now := k.Clock()
	before := k.seen
	k.seen = map[string]*seen{}
	var all []func()
	for _, m := range k.Sandboxes.Tended(ctx) {
		all = append(all, k.due(ctx, now, m, before[m.ID]))
	}
	k.looked = true
	sideBySide(all)
}

// sideBySide calls all of these, a few at once.
func sideBySide(all []func()) {
	var called errgroup.Group
	called.SetLimit(atOnce)
	for _, f := range all {
		called.Go(func() error { f(); return nil })
	}
	_ = called.Wait() // each has told of its own error
}

// due returns what looks after a machine; s is what was known of it.
func (k *Keeper) due(ctx context.Context, now time.Time, m Tended, s *seen) func() {
	switch {
	case !m.Schedule.Expires.IsZero() && !now.Before(m.Schedule.Expires):
		return func() { k.try(ctx, stays, m.ID, k.Sandboxes.Expire) }
	case m.Running:
		s = k.see(s, m, now)
		return func() { k.tend(ctx, now, m, s) }
	case m.Suspended:
		if s == nil { // an earlier daemon has stopped it
			s = &seen{busy: now, at: now, changed: true}
		}
		k.seen[m.ID] = s
		return func() { k.tendSuspended(ctx, now, m, s) }
	case m.Paused && (m.Schedule.WakesSince(m.Snapshot, now) || m.Schedule.KeepAlive && !k.looked):
		return func() { k.try(ctx, "machine is not woken", m.ID, k.Sandboxes.Wake) }
	}
	return func() {}
}

// End does what is due with the sandboxes that have had their time.
func (k *Keeper) End(ctx context.Context) {
	var all []func()
	for _, id := range k.Sandboxes.Ended(k.Clock()) {
		all = append(all, func() { k.try(ctx, stays, id, k.Sandboxes.Expire) })
	}
	sideBySide(all)
}

// stays is what is said of a sandbox that does not end.
const stays = "sandbox whose time is over stays"

func (k *Keeper) try(ctx context.Context, otherwise, id string, do func(context.Context, string) error) {
	if err := do(ctx, id); err != nil {
		k.Log.WarnContext(ctx, otherwise, "sandbox", id, "err", err)
	}
}

// see returns what is known of a running machine now; s is what was.
func (k *Keeper) see(s *seen, m Tended, now time.Time) *seen {
	if s == nil {
		s = &seen{busy: now, changed: true}
	} else if s.discount(m.Use, now); happened(s.use, m.Use, now.Sub(s.at)) {
		s.busy, s.changed = now, true
	}
	s.use, s.at, s.still = m.Use, now, false
	k.seen[m.ID] = s
	return s
}

// discount leaves out what giving memory back has cost. A machine that was woken
// has its time anew.
func (s *seen) discount(use Use, now time.Time) {
	if s.giving {
		s.use.CPU, s.giving = use.CPU, false
	}
	if s.still {
		s.busy = now
	}
}

// happened reports whether something has happened in a machine. A short time
// says nothing of how busy a processor is.
func happened(from, to Use, in time.Duration) bool {
	return to.Open > 0 || to.Asked != from.Asked || to.Moved != from.Moved ||
		float64(to.CPU-from.CPU) > idleShare*float64(max(in, Every))
}

func (k *Keeper) tend(ctx context.Context, now time.Time, m Tended, s *seen) {
	k.snapshot(ctx, now, m, s)
	idle, err := now.Sub(s.busy), error(nil)
	switch {
	case m.Schedule.KeepAlive:
		k.balloon(ctx, m, s, idle)
	case m.Schedule.Idle > 0 && idle >= m.Schedule.Idle:
		err = k.Sandboxes.Pause(ctx, m.ID)
	case m.Schedule.SuspendAfter() > 0 && idle >= m.Schedule.SuspendAfter():
		err = k.Sandboxes.Suspend(ctx, m.ID)
	default:
		k.balloon(ctx, m, s, idle)
	}
	if err != nil {
		s.busy = now
		k.Log.WarnContext(ctx, "idle machine is not stopped", "sandbox", m.ID, "err", err)
	}
}

// balloon has a quiet machine give memory back, and one that is not have it all.
func (k *Keeper) balloon(ctx context.Context, m Tended, s *seen, idle time.Duration) {
	stopsLater := m.Schedule.SuspendAfter() > 0 && !m.Schedule.KeepAlive
	quiet := idle >= quietAfter
	if quiet == s.squeezed || quiet && !stopsLater && !k.Short() {
		return
	}
	s.squeezed, s.giving = quiet, quiet
	if err := k.Sandboxes.Balloon(ctx, m.ID, quiet); err != nil {
		k.Log.WarnContext(ctx, "machine's memory stays as it is", "sandbox", m.ID, "quiet", quiet, "err", err)
	}
}

// tendSuspended looks after a machine that stands still in memory. What is due has
// it go on.
func (k *Keeper) tendSuspended(ctx context.Context, now time.Time, m Tended, s *seen) {
	wakes := m.Schedule.WakesSince(s.at, now)
	s.use, s.at, s.still = m.Use, now, true
	k.snapshot(ctx, now, m, s)
	switch {
	case wakes:
		s.busy = now
		k.try(ctx, "machine is not woken", m.ID, k.Sandboxes.Wake)
	case m.Schedule.Idle > 0 && now.Sub(s.busy) >= m.Schedule.Idle:
		k.try(ctx, "idle machine is not paused", m.ID, k.Sandboxes.Pause)
	}
}

// snapshot takes a scheduled snapshot if one is due.
func (k *Keeper) snapshot(ctx context.Context, now time.Time, m Tended, s *seen) {
	last := m.Snapshot
	if s.tried.After(last) { // one that failed is tried again when the next is due
		last = s.tried
	}
	if m.Schedule.Every == 0 || !s.changed || now.Sub(last) < m.Schedule.Every {
		return
	}
	s.tried = now
	if err := k.Sandboxes.Snapshot(ctx, m.ID, m.Schedule.Keep); err != nil {
		k.Log.WarnContext(ctx, "scheduled snapshot failed", "sandbox", m.ID, "err", err)
		return
	}
	s.changed = false
}
