package e2e_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon"
	"bulkhead/test/inside"
)

// future is a clock that can be put forward.
type future struct{ ahead atomic.Int64 }

func (f *future) now() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) }

// A sandbox is looked after while nobody looks: snapshots are taken when
// something has happened, thinned, and an idle machine is paused until it is
// needed.
func TestSchedule(t *testing.T) {
	clock, ticks := &future{}, make(chan time.Time)
	h := inside.Run(t, daemon.Daemon{Clock: clock.now, Ticks: ticks}, nil).Base()
	b := h.Create("tended")
	h.Must("schedule", b.Name, "--every", "15m", "--keep", "2,0,0", "--idle-timeout", "1h")
	// pass lets time pass; the second tick is taken once the first was seen to.
	pass := func(d time.Duration) {
		clock.ahead.Add(int64(d))
		ticks <- time.Time{}
		ticks <- time.Time{}
	}
	taken := func() []string {
		var line client.Timeline
		h.JSON(&line, "timeline", b.Name)
		var causes []string
		for _, s := range line.Snapshots {
			causes = append(causes, s.Cause)
		}
		return causes
	}
	pass(0)
	for range 4 {
		b.Sh("date > /srv/work")
		pass(16 * time.Minute)
	}
	if got := taken(); !slices.Equal(got, []string{"schedule", "schedule"}) {
		t.Errorf("after an hour of work there are %v", got)
	}
	b.Snapshot("mine")
	for range 3 {
		pass(16 * time.Minute) // nobody does anything
	}
	if got := taken(); !slices.Equal(got, []string{"schedule", "schedule", "manual"}) {
		t.Errorf("after an hour of rest there are %v", got)
	}
	if got := b.Inspect(); got.State != client.StateSuspended {
		t.Errorf("after 48 minutes it is %s", got.State)
	}
	pass(16 * time.Minute)
	if got := b.Inspect(); got.State != client.StatePaused {
		t.Errorf("after an hour it is %s", got.State)
	}
	b.Sh("test -s /srv/work")
	if got := b.Inspect(); got.State != client.StateRunning || got.Schedule == nil || got.Schedule.IdleSeconds != 3600 {
		t.Errorf("woken it is %+v", got)
	}
	if r := h.CLI("schedule", b.Name, "--every", "1s"); r.Code != 2 || !strings.Contains(r.Stderr, "more often") {
		t.Errorf("too often: %d, %s", r.Code, r.Stderr)
	}
	h.Must("schedule", "--template", "base", "--every", "1h")
	if got := h.Create("planned").Inspect().Schedule; got == nil || got.EverySeconds != 3600 {
		t.Errorf("made from a template with a schedule it has %+v", got)
	}
	if r := h.CLI("schedule", "--template", "base", "--ttl", "8h"); r.Code != 2 {
		t.Errorf("a time to live of a template: %d, %s", r.Code, r.Stderr)
	}
	h.Must("schedule", b.Name, "--every", "0", "--idle-timeout", "0")
	if got := h.Must("schedule", b.Name); got != "nothing\n" {
		t.Errorf("ended, there is %q", got)
	}
}
