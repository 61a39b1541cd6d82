// Package lease is the time of a sandbox that its client has for a while only,
// and must ask for more of.
//
// The end itself is the schedule's (Schedule.Expires): a lease says how far away
// it is put, and what a pause means to who holds it. A sandbox without a lease
// has no end unless its operator sets one.
//
// lease is pure: no I/O and no clock.
package lease

import (
	"time"

	"bulkhead/internal/sandbox/schedule"
)

// Lease is how a client has a sandbox.
type Lease struct {
	// Term is the time that it gets when it is brought back and nobody says how
	// long.
	Term time.Duration `json:"term"`
	// OnEnd is what is done when its time is over.
	OnEnd schedule.Expiry `json:"on_end"`
	// Wakes means that whatever is asked of it while it is paused brings it back.
	Wakes bool `json:"wakes,omitempty"`
	// Cold means that a pause at the end keeps its disk alone.
	Cold bool `json:"cold,omitempty"`
}

// Begin puts the end of s to term from now, the lease's own if that is 0. A nil
// lease changes nothing.
func (l *Lease) Begin(s schedule.Schedule, now time.Time, term time.Duration) schedule.Schedule {
	if l == nil {
		return s
	}
	if term == 0 {
		term = l.Term
	}
	s.Expires, s.Expiry = now.Add(term), l.OnEnd
	return s
}

// Suspend takes the end away: the time of a paused sandbox does not run. A nil
// lease changes nothing.
func (l *Lease) Suspend(s schedule.Schedule) schedule.Schedule {
	if l != nil {
		return s.Endless()
	}
	return s
}

// Stays reports whether a pause ends by Resume alone.
func (l *Lease) Stays() bool { return l != nil && !l.Wakes }

// EndsCold reports whether a pause at the end keeps the disk alone.
func (l *Lease) EndsCold() bool { return l != nil && l.Cold }

// End is a time that a client asks for.
type End struct {
	At time.Time
	// OnlyLater leaves an end that is later already, or none at all.
	OnlyLater bool
}

// Apply returns l and s with the end that is asked for at now, and whether that
// changes anything. One without a lease has one from then on, and is removed at
// its end.
func (e End) Apply(l *Lease, s schedule.Schedule, now time.Time) (*Lease, schedule.Schedule, bool) {
	if e.OnlyLater && (s.Expires.IsZero() || !e.At.After(s.Expires)) {
		return l, s, false
	}
	if l == nil {
		l = &Lease{Term: e.At.Sub(now), OnEnd: schedule.Remove, Wakes: true}
	}
	s.Expires, s.Expiry = e.At, l.OnEnd
	return l, s, true
}
