// Package schedule says what is done for a sandbox while nobody looks: how
// often a snapshot is taken, which of these stay, and when it is paused for
// being idle.
//
// It is pure: no I/O and no clock. Who takes snapshots is decided elsewhere.
package schedule

import (
	"slices"
	"time"

	"bulkhead/internal/fault"
)

// Schedule is what an operator wants for a sandbox; the zero one is nothing.
type Schedule struct {
	// Every is how often a snapshot is taken of a machine in which something
	// has happened since the last one; 0 for never.
	Every time.Duration `json:"every,omitempty"`
	// Keep says which of these stay.
	Keep Keep `json:"keep,omitzero"`
	// Idle is how long nothing happens in a machine before it is paused; 0 for
	// never.
	Idle time.Duration `json:"idle,omitempty"`
}

// Keep counts what stays: the last ones, and the last one of each hour and of
// each day (UTC) that has any, for so many hours and days.
type Keep struct {
	Last   int `json:"last,omitempty"`
	Hourly int `json:"hourly,omitempty"`
	Daily  int `json:"daily,omitempty"`
}

// DefaultKeep is for who says nothing: two hours in steps of a quarter, a day,
// two weeks.
func DefaultKeep() Keep { return Keep{Last: 8, Hourly: 24, Daily: 14} }

// Bounds of what can be asked for.
const (
	minEvery = time.Minute
	minIdle  = time.Minute
	maxKeep  = 1000
)

// Normal returns c with defaults filled in. The error is fault.Invalid.
func (c Schedule) Normal() (Schedule, error) {
	switch {
	case c.Every < 0 || c.Every > 0 && c.Every < minEvery:
		return c, fault.New(fault.Invalid, "a snapshot every %s is more often than every %s", c.Every, minEvery)
	case c.Idle < 0 || c.Idle > 0 && c.Idle < minIdle:
		return c, fault.New(fault.Invalid, "idle for %s is less than %s", c.Idle, minIdle)
	}
	for _, n := range []int{c.Keep.Last, c.Keep.Hourly, c.Keep.Daily} {
		if n < 0 || n > maxKeep {
			return c, fault.New(fault.Invalid, "%d snapshots to keep are not 0 to %d", n, maxKeep)
		}
	}
	if c.Every > 0 && c.Keep == (Keep{}) {
		c.Keep = DefaultKeep()
	}
	return c, nil
}

// Surplus returns the indexes of what may go of snapshots that were taken at
// these times, in any order. The newest always stays.
func (k Keep) Surplus(taken []time.Time) (gone []int) {
	newestFirst := make([]int, len(taken))
	for i := range taken {
		newestFirst[i] = i
	}
	slices.SortStableFunc(newestFirst, func(a, b int) int { return taken[b].Compare(taken[a]) })
	hours, days := map[time.Time]bool{}, map[time.Time]bool{}
	for rank, i := range newestFirst {
		at := taken[i].UTC()
		stays := rank < max(k.Last, 1)
		stays = firstOf(hours, at.Truncate(time.Hour), k.Hourly) || stays
		stays = firstOf(days, at.Truncate(24*time.Hour), k.Daily) || stays
		if !stays {
			gone = append(gone, i)
		}
	}
	return gone
}

// firstOf reports whether at begins a span that no newer one is in, and that is
// among the newest so many.
func firstOf(spans map[time.Time]bool, at time.Time, most int) bool {
	if spans[at] || len(spans) >= most {
		return false
	}
	spans[at] = true
	return true
}
