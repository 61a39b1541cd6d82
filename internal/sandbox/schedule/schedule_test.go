package schedule_test

import (
	"slices"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/schedule"
)

func TestSurplus(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse("2 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct {
		name  string
		keep  schedule.Keep
		taken []string
		gone  []int
	}{
		{"nothing", schedule.Keep{Last: 2}, nil, nil},
		{"the newest stays whatever is said", schedule.Keep{}, []string{"1 10:00", "1 11:00"}, []int{0}},
		{"the last ones", schedule.Keep{Last: 2}, []string{"1 10:00", "1 12:00", "1 11:00"}, []int{0}},
		{"one of each hour, its last", schedule.Keep{Hourly: 2}, []string{"1 10:00", "1 10:45", "1 11:00", "1 11:45", "1 09:59"}, []int{2, 0, 4}},
		{"hours without any do not count", schedule.Keep{Hourly: 2}, []string{"1 03:00", "1 11:00"}, nil},
		{"days and hours together", schedule.Keep{Hourly: 1, Daily: 2}, []string{"1 23:00", "2 09:00", "2 10:00"}, []int{1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var taken []time.Time
			for _, s := range tt.taken {
				taken = append(taken, at(s))
			}
			if got := tt.keep.Surplus(taken); !slices.Equal(got, tt.gone) {
				t.Errorf("gone are %v, want %v", got, tt.gone)
			}
		})
	}
}

// A year of snapshots every quarter of an hour, thinned after each: what stays
// is bounded, and something of each day is there.
func TestAYear(t *testing.T) {
	keep := schedule.DefaultKeep()
	var taken []time.Time
	now := time.Unix(0, 0)
	for range 365 * 96 {
		now = now.Add(15 * time.Minute)
		taken = append(taken, now)
		gone := keep.Surplus(taken)
		slices.SortFunc(gone, func(a, b int) int { return b - a })
		for _, i := range gone {
			taken = slices.Delete(taken, i, i+1)
		}
	}
	if most := keep.Last + keep.Hourly + keep.Daily; len(taken) > most {
		t.Errorf("%d stay, of %d at most", len(taken), most)
	}
	if oldest := now.Sub(taken[0]); oldest < 12*24*time.Hour || oldest > 14*24*time.Hour {
		t.Errorf("the oldest is of %s ago", oldest)
	}
}

func TestNormal(t *testing.T) {
	if c, err := (schedule.Schedule{Every: 15 * time.Minute}).Normal(); err != nil || c.Keep != schedule.DefaultKeep() {
		t.Errorf("without what to keep: %+v, %v", c, err)
	}
	if c, err := (schedule.Schedule{}).Normal(); err != nil || !c.IsZero() {
		t.Errorf("nothing: %+v, %v", c, err)
	}
	for _, tt := range []struct{ suspend, idle, want time.Duration }{
		{0, time.Hour, 30 * time.Second}, {time.Minute, time.Hour, time.Minute}, {-1, time.Hour, 0}, {time.Minute, 0, time.Minute},
	} {
		if c, err := (schedule.Schedule{Suspend: tt.suspend, Idle: tt.idle}).Normal(); err != nil || c.SuspendAfter() != tt.want || c.Suspend != tt.suspend || c.IsZero() {
			t.Errorf("%+v becomes %+v, %v", tt, c, err)
		}
	}
	for name, c := range map[string]schedule.Schedule{
		"too often":      {Every: time.Second},
		"backwards":      {Every: -time.Hour},
		"idle too soon":  {Idle: time.Second},
		"hasty":          {Suspend: time.Second},
		"less than none": {Every: time.Hour, Keep: schedule.Keep{Last: -1}},
		"too many":       {Every: time.Hour, Keep: schedule.Keep{Daily: 1001}},
		"no time of day": {Wake: "6 o'clock"},
		"no expiry":      {Expires: time.Unix(1, 0), Expiry: "forget"},
		"no remedy":      {Remedy: "pray"},
		"patterns":       {Before: schedule.Before{Commands: make([]string, 51)}},
	} {
		if _, err := c.Normal(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWakesSince(t *testing.T) {
	zone := time.FixedZone("", 3*3600)
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 3, day, hour, minute, 0, 0, zone) }
	for _, tt := range []struct {
		wake       string
		since, now time.Time
		want       bool
	}{
		{"", at(1, 0, 0), at(9, 0, 0), false},
		{"06:00", at(1, 5, 0), at(1, 5, 59), false},
		{"06:00", at(1, 5, 0), at(1, 6, 0), true},
		{"06:00", at(1, 6, 0), at(1, 23, 0), false},
		{"06:00", at(1, 22, 0), at(2, 5, 0), false},
		{"06:00", at(1, 22, 0), at(2, 9, 0), true},
		{"06:00", at(1, 5, 0), at(2, 5, 0), true}, // the daemon was not there at six
		{"06:00", at(1, 22, 0).UTC(), at(2, 9, 0), true},
	} {
		c := schedule.Schedule{Wake: tt.wake}
		if got := c.WakesSince(tt.since, tt.now); got != tt.want {
			t.Errorf("%q between %s and %s: %v", tt.wake, tt.since, tt.now, got)
		}
	}
}
