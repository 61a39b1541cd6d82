// Package schedule says what is done for a sandbox while nobody looks: how
// often a snapshot is taken, which of these stay, when it is paused and woken,
// and what becomes of one that is broken or has had its time.
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
	// Suspend is how long nothing happens in a machine before it is stopped in
	// memory, from where it goes on in milliseconds; less than 0 for never, 0 for
	// what is usual, see SuspendAfter.
	Suspend time.Duration `json:"suspend,omitempty"`
	// KeepAlive brings it back whenever the daemon starts.
	KeepAlive bool `json:"keep_alive,omitempty"`
	// Wake is the time of day at which it is resumed if it is paused, "06:00" in
	// the host's zone; "" for none.
	Wake string `json:"wake,omitempty"`
	// Expires is when it has had its time, zero for never, and Expiry what is
	// done then.
	Expires time.Time `json:"expires,omitzero"`
	Expiry  Expiry    `json:"expiry,omitempty"`
	// Remedy is what is done for a machine that cannot work any more.
	Remedy Remedy `json:"remedy,omitempty"`
	// Before says what a snapshot is taken before.
	Before Before `json:"before,omitzero"`
}

// Expiry is what is done with a sandbox that has had its time.
type Expiry string

// The ends of time.
const (
	Pause  Expiry = "pause"
	Remove Expiry = "remove"
)

// Remedy is what is done for a machine that is not healthy.
type Remedy string

// The remedies. The zero one is Nothing.
const (
	Nothing  Remedy = "nothing"
	Reboot   Remedy = "reboot"
	Rollback Remedy = "rollback"
)

// Before says what is risky enough for a snapshot just before it.
type Before struct {
	// Commands are patterns of what is started, see package risk.
	Commands []string `json:"commands,omitempty"`
	// Contact is the first connection to a destination.
	Contact bool `json:"contact,omitempty"`
	// Interval is how often at most.
	Interval time.Duration `json:"interval,omitempty"`
}

// IsZero reports whether nothing is wanted.
func (c Schedule) IsZero() bool {
	before := len(c.Before.Commands) > 0 || c.Before.Contact
	return c.Every == 0 && c.Idle == 0 && c.Suspend <= 0 && !c.KeepAlive && c.Wake == "" && c.Expires.IsZero() && c.Remedy == "" && !before
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
	// minSuspend is above the time between two looks at a machine.
	minSuspend = 15 * time.Second
	// usualSuspend is for machines that are paused later on: what waits for an
	// answer does so for seconds.
	usualSuspend = 30 * time.Second
	maxKeep      = 1000
	maxBefore    = 50
	// perRisk is how often a snapshot is taken before something risky unless
	// somebody says otherwise.
	perRisk = 10 * time.Minute
)

// timeOfDay is how a time of day is written.
const timeOfDay = "15:04"

// Endless returns c without an end.
func (c Schedule) Endless() Schedule {
	c.Expires, c.Expiry = time.Time{}, ""
	return c
}

// SuspendAfter is how long nothing happens in a machine before it is stopped in
// memory; 0 for never. Usual is half a minute if it is to be paused later on, and
// never if not.
func (c Schedule) SuspendAfter() time.Duration {
	if c.Suspend == 0 && c.Idle > 0 {
		return usualSuspend
	}
	return max(c.Suspend, 0)
}

// Normal returns c with defaults filled in. The error is fault.Invalid.
func (c Schedule) Normal() (Schedule, error) {
	switch {
	case c.Every < 0 || c.Every > 0 && c.Every < minEvery:
		return c, fault.New(fault.Invalid, "a snapshot every %s is more often than every %s", c.Every, minEvery)
	case c.Idle < 0 || c.Idle > 0 && c.Idle < minIdle:
		return c, fault.New(fault.Invalid, "idle for %s is less than %s", c.Idle, minIdle)
	case c.Suspend > 0 && c.Suspend < minSuspend:
		return c, fault.New(fault.Invalid, "stopped in memory after %s is sooner than after %s", c.Suspend, minSuspend)
	case c.Before.Interval < 0:
		return c, fault.New(fault.Invalid, "an interval of %s is none", c.Before.Interval)
	case len(c.Before.Commands) > maxBefore:
		return c, fault.New(fault.Invalid, "%d patterns of commands are more than %d", len(c.Before.Commands), maxBefore)
	}
	for _, n := range []int{c.Keep.Last, c.Keep.Hourly, c.Keep.Daily} {
		if n < 0 || n > maxKeep {
			return c, fault.New(fault.Invalid, "%d snapshots to keep are not 0 to %d", n, maxKeep)
		}
	}
	if err := c.checkWords(); err != nil {
		return c, err
	}
	if c.Every > 0 && c.Keep == (Keep{}) {
		c.Keep = DefaultKeep()
	}
	if (len(c.Before.Commands) > 0 || c.Before.Contact) && c.Before.Interval == 0 {
		c.Before.Interval = perRisk
	}
	if c.Remedy == Nothing {
		c.Remedy = ""
	}
	if c.Expires.IsZero() {
		c.Expiry = ""
	} else if c.Expiry == "" {
		c.Expiry = Pause
	}
	return c, nil
}

func (c Schedule) checkWords() error {
	if _, err := time.Parse(timeOfDay, c.Wake); c.Wake != "" && err != nil {
		return fault.New(fault.Invalid, "%q is not a time of day", c.Wake).Hint("write it like 06:00")
	}
	if !slices.Contains([]Expiry{"", Pause, Remove}, c.Expiry) {
		return fault.New(fault.Invalid, "%q is not what can be done with a sandbox that has had its time", c.Expiry).Hint("there are pause and remove")
	}
	if !slices.Contains([]Remedy{"", Nothing, Reboot, Rollback}, c.Remedy) {
		return fault.New(fault.Invalid, "%q is not what can be done for an unhealthy machine", c.Remedy).Hint("there are nothing, reboot and rollback")
	}
	return nil
}

// WakesSince reports whether the time of day to wake has come between since and
// now, in the zone of now.
func (c Schedule) WakesSince(since, now time.Time) bool {
	at, err := time.Parse(timeOfDay, c.Wake)
	if c.Wake == "" || err != nil {
		return false
	}
	last := time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), 0, 0, now.Location())
	if last.After(now) {
		last = last.AddDate(0, 0, -1)
	}
	return last.After(since)
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
