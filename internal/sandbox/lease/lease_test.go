package lease_test

import (
	"testing"
	"time"

	"bulkhead/internal/sandbox/lease"
	"bulkhead/internal/sandbox/schedule"
)

func TestTermBeginsAndIsSuspended(t *testing.T) {
	now := time.Unix(1000, 0)
	l := &lease.Lease{Term: time.Minute, OnEnd: schedule.Pause}
	idle := schedule.Schedule{Idle: time.Hour}

	s := l.Begin(idle, now, 0)
	if !s.Expires.Equal(now.Add(time.Minute)) || s.Expiry != schedule.Pause || s.Idle != time.Hour {
		t.Errorf("begun with its own term: %+v", s)
	}
	if s = l.Begin(s, now, time.Hour); !s.Expires.Equal(now.Add(time.Hour)) {
		t.Errorf("begun with another term: %+v", s)
	}
	if s = l.Suspend(s); !s.Expires.IsZero() || s.Idle != time.Hour {
		t.Errorf("suspended: %+v", s)
	}

	var none *lease.Lease
	end := schedule.Schedule{Expires: now, Expiry: schedule.Remove}
	if got := none.Suspend(none.Begin(end, now, time.Hour)); !got.Expires.Equal(now) {
		t.Errorf("without a lease the operator's end is %v", got.Expires)
	}
	if none.Stays() || none.EndsCold() {
		t.Error("without a lease a pause stays or is cold")
	}
	if !l.Stays() {
		t.Error("a pause of a lease does not stay")
	}
}

func TestEnd(t *testing.T) {
	now := time.Unix(1000, 0)
	at := func(d time.Duration) schedule.Schedule {
		return schedule.Schedule{Expires: now.Add(d), Expiry: schedule.Pause}
	}
	l := &lease.Lease{Term: time.Minute, OnEnd: schedule.Pause}
	for name, tt := range map[string]struct {
		have    schedule.Schedule
		lease   *lease.Lease
		end     lease.End
		want    time.Duration // from now; 0 for none
		expiry  schedule.Expiry
		changed bool
	}{
		"shortened":                      {at(time.Hour), l, lease.End{At: now.Add(time.Minute)}, time.Minute, schedule.Pause, true},
		"not shortened by an extension":  {at(time.Hour), l, lease.End{At: now.Add(time.Minute), OnlyLater: true}, time.Hour, schedule.Pause, false},
		"extended":                       {at(time.Minute), l, lease.End{At: now.Add(time.Hour), OnlyLater: true}, time.Hour, schedule.Pause, true},
		"none stays none when extended":  {schedule.Schedule{}, nil, lease.End{At: now.Add(time.Hour), OnlyLater: true}, 0, "", false},
		"none becomes one when set":      {schedule.Schedule{}, nil, lease.End{At: now.Add(time.Hour)}, time.Hour, schedule.Remove, true},
		"the same is not another moment": {at(time.Hour), l, lease.End{At: now.Add(time.Hour), OnlyLater: true}, time.Hour, schedule.Pause, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, s, changed := tt.end.Apply(tt.lease, tt.have, now)
			want := time.Time{}
			if tt.want != 0 {
				want = now.Add(tt.want)
			}
			if changed && (l == nil || l.Term < time.Minute) {
				t.Errorf("lease is %+v", l)
			}
			if !s.Expires.Equal(want) || s.Expiry != tt.expiry || changed != tt.changed {
				t.Errorf("end is %v %q, changed %v", s.Expires, s.Expiry, changed)
			}
		})
	}
}
