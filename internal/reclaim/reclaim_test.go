package reclaim_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/internal/reclaim"
	"bulkhead/internal/sandbox/schedule"
)

// world has one machine and writes down what is done to it.
type world struct {
	now     time.Time
	machine reclaim.Tended
	// paused and suspended are what it is, not running.
	paused, suspended bool

	done []string
	// short is whether the host is short of memory.
	short   bool
	failing bool
}

func (w *world) Tended(context.Context) []reclaim.Tended {
	m := w.machine
	m.Running, m.Suspended, m.Paused = !w.paused && !w.suspended, w.suspended, w.paused
	return []reclaim.Tended{m}
}

func (w *world) Ended(now time.Time) []string {
	if e := w.machine.Schedule.Expires; e.IsZero() || now.Before(e) {
		return nil
	}
	return []string{w.machine.ID}
}

func (w *world) Snapshot(context.Context, string, schedule.Keep) error {
	w.done = append(w.done, w.now.Format("15:04")+" snapshot")
	if w.failing {
		return errors.New("the pool is full")
	}
	w.machine.Snapshot, w.suspended = w.now, false
	return nil
}

func (w *world) Balloon(_ context.Context, _ string, quiet bool) error {
	if !quiet {
		w.done = append(w.done, w.now.Format("15:04")+" ease")
		return nil
	}
	w.done = append(w.done, w.now.Format("15:04")+" squeeze")
	w.machine.Use.CPU += 20 * time.Second // to give memory back costs time
	return nil
}

func (w *world) Suspend(context.Context, string) error {
	w.done = append(w.done, w.now.Format("15:04")+" suspend")
	if w.failing {
		return errors.New("it is in use")
	}
	w.suspended = true
	return nil
}

func (w *world) Pause(context.Context, string) error {
	w.done = append(w.done, w.now.Format("15:04")+" pause")
	w.paused, w.suspended = true, false
	return nil
}

func (w *world) Wake(context.Context, string) error {
	w.done = append(w.done, w.now.Format("15:04")+" wake")
	w.paused, w.suspended = false, false
	return nil
}

func (w *world) Expire(context.Context, string) error {
	w.done = append(w.done, w.now.Format("15:04")+" expire")
	w.machine.Schedule.Expires = time.Time{}
	w.paused = true
	return nil
}

// spend lets time pass, a minute for each look, with what happens in each.
func (w *world) spend(k *reclaim.Keeper, minutes int, happens func(*reclaim.Use)) {
	for range minutes {
		w.now = w.now.Add(time.Minute)
		w.machine.Use.CPU += time.Second // a machine at rest
		happens(&w.machine.Use)
		k.Look(context.Background())
	}
}

func newWorld(c schedule.Schedule) (*world, *reclaim.Keeper) {
	w := &world{now: time.Unix(0, 0).UTC(), machine: reclaim.Tended{ID: "i1", Schedule: c}}
	return w, &reclaim.Keeper{Sandboxes: w, Clock: func() time.Time { return w.now }, Short: func() bool { return w.short }, Log: slog.New(slog.DiscardHandler)}
}

func rest(*reclaim.Use) {}

func TestSchedule(t *testing.T) {
	w, k := newWorld(schedule.Schedule{Every: 15 * time.Minute})
	w.spend(k, 40, func(u *reclaim.Use) { u.Moved++ })
	w.spend(k, 60, rest) // one more for what was last, then none
	w.spend(k, 1, func(u *reclaim.Use) { u.Asked++ })
	w.spend(k, 60, rest)
	want := []string{"00:01 snapshot", "00:16 snapshot", "00:31 snapshot", "00:46 snapshot", "01:41 snapshot"}
	if !slices.Equal(w.done, want) {
		t.Errorf("done is %v, want %v", w.done, want)
	}
}

func TestFailedSnapshotIsTriedWhenTheNextIsDue(t *testing.T) {
	w, k := newWorld(schedule.Schedule{Every: 15 * time.Minute})
	w.failing = true
	w.spend(k, 20, rest)
	w.failing = false
	w.spend(k, 20, rest)
	if want := []string{"00:01 snapshot", "00:16 snapshot", "00:31 snapshot"}; !slices.Equal(w.done, want) {
		t.Errorf("done is %v, want %v", w.done, want)
	}
}

func TestIdle(t *testing.T) {
	for name, happens := range map[string]func(*reclaim.Use){
		"requests":       func(u *reclaim.Use) { u.Asked++ },
		"an open shell":  func(u *reclaim.Use) { u.Open = 1 },
		"traffic":        func(u *reclaim.Use) { u.Moved += 100 },
		"processor time": func(u *reclaim.Use) { u.CPU += 10 * time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			w, k := newWorld(schedule.Schedule{Idle: 10 * time.Minute, Suspend: -1})
			w.spend(k, 30, happens)
			if len(w.done) > 0 {
				t.Fatalf("done is %v", w.done)
			}
			w.machine.Use.Open = 0
			w.spend(k, 15, rest)
			if len(w.done) != 1 || w.done[0] != "00:40 pause" {
				t.Errorf("done is %v", w.done)
			}
			w.paused = false // somebody has woken it
			w.spend(k, 5, rest)
			if len(w.done) != 1 {
				t.Errorf("just woken, done is %v", w.done)
			}
		})
	}
}

// A machine in which nothing happens goes down step by step. One that is woken
// begins again at the top.
func TestLadder(t *testing.T) {
	w, k := newWorld(schedule.Schedule{Suspend: 2 * time.Minute, Idle: 10 * time.Minute})
	w.spend(k, 5, rest)
	w.suspended = false // somebody has asked something of it
	w.machine.Use.Asked++
	w.spend(k, 30, rest)
	if want := []string{"00:02 squeeze", "00:03 suspend", "00:06 ease", "00:07 squeeze", "00:08 suspend", "00:16 pause"}; !slices.Equal(w.done, want) {
		t.Errorf("done is %v, want %v", w.done, want)
	}
}

// One that an earlier daemon has suspended is paused like any other.
func TestLadderAfterARestart(t *testing.T) {
	w, k := newWorld(schedule.Schedule{Suspend: time.Minute, Idle: 10 * time.Minute})
	w.suspended = true
	w.spend(k, 30, rest)
	if want := []string{"00:11 pause"}; !slices.Equal(w.done, want) {
		t.Errorf("done is %v, want %v", w.done, want)
	}
}

// What a quiet machine does not need it gives back if the host is short of it,
// and has it again once it does something.
func TestShortOfMemory(t *testing.T) {
	for name, c := range map[string]schedule.Schedule{
		"nothing wanted": {}, "kept alive": {KeepAlive: true, Suspend: time.Minute}, "never suspended": {Idle: time.Hour, Suspend: -1},
	} {
		w, k := newWorld(c)
		w.spend(k, 10, rest)
		w.short = true
		w.spend(k, 10, rest)
		w.spend(k, 2, func(u *reclaim.Use) { u.Open = 1 })
		w.machine.Use.Open = 0
		w.spend(k, 10, rest)
		if want := []string{"00:11 squeeze", "00:21 ease", "00:23 squeeze"}; !slices.Equal(w.done, want) {
			t.Errorf("%s: done is %v, want %v", name, w.done, want)
		}
	}
}

// What is due while a machine stands still has it go on, and it is stopped
// again.
func TestDueWhileSuspended(t *testing.T) {
	w, k := newWorld(schedule.Schedule{Suspend: time.Minute, Every: 10 * time.Minute, Wake: "00:30"})
	w.machine.Snapshot = w.now
	w.spend(k, 40, rest)
	want := []string{"00:02 suspend", "00:10 snapshot", "00:12 suspend", "00:30 wake", "00:32 suspend"}
	if !slices.Equal(w.done, want) {
		t.Errorf("done is %v, want %v", w.done, want)
	}
}

// One that cannot be stopped is left alone for as long again.
func TestNotSuspended(t *testing.T) {
	w, k := newWorld(schedule.Schedule{Suspend: 5 * time.Minute})
	w.failing = true
	w.spend(k, 12, rest)
	if want := []string{"00:02 squeeze", "00:06 suspend", "00:11 suspend"}; !slices.Equal(w.done, want) {
		t.Errorf("done is %v, want %v", w.done, want)
	}
}

func TestWake(t *testing.T) {
	w, k := newWorld(schedule.Schedule{Wake: "00:30", Idle: 10 * time.Minute, Suspend: -1})
	w.machine.Snapshot, w.paused = w.now, true // paused at midnight
	w.spend(k, 35, rest)
	w.machine.Snapshot = w.now
	w.spend(k, 24*60, rest)
	if want := []string{"00:30 wake", "00:41 pause"}; !slices.Equal(w.done[:2], want) {
		t.Errorf("done is %v, want %v", w.done, want)
	}
	if want := []string{"00:30 wake", "00:41 pause", "00:30 wake"}; !slices.Equal(w.done, want) {
		t.Errorf("a day later, done is %v, want %v", w.done, want)
	}
}

// One that is to be there comes back with the daemon, and no idleness ends it;
// whoever pauses it later has it paused.
func TestKeepAlive(t *testing.T) {
	w, k := newWorld(schedule.Schedule{KeepAlive: true, Idle: 10 * time.Minute})
	w.paused = true
	w.spend(k, 100, rest)
	w.paused = true
	w.spend(k, 100, rest)
	if want := []string{"00:01 wake"}; !slices.Equal(w.done, want) {
		t.Errorf("done is %v, want %v", w.done, want)
	}
}

func TestExpiry(t *testing.T) {
	w, k := newWorld(schedule.Schedule{Expires: time.Unix(0, 0).Add(time.Hour), Idle: 2 * time.Hour, Suspend: -1})
	w.spend(k, 100, rest)
	if want := []string{"01:00 expire"}; !slices.Equal(w.done, want) {
		t.Errorf("done is %v, want %v", w.done, want)
	}
}

func TestNoSchedule(t *testing.T) {
	w, k := newWorld(schedule.Schedule{})
	w.spend(k, 100, rest)
	if len(w.done) > 0 {
		t.Errorf("done is %v", w.done)
	}
}

// Who has had its time is not kept waiting for the next look at everything.
func TestEnd(t *testing.T) {
	w, k := newWorld(schedule.Schedule{Expires: time.Unix(90, 0)})
	for range 5 {
		w.now = w.now.Add(30 * time.Second)
		k.End(t.Context())
	}
	if want := []string{"00:01 expire"}; !slices.Equal(w.done, want) {
		t.Errorf("done is %v, want %v", w.done, want)
	}
}

// two has two machines of which a snapshot is due; that of the first takes until
// that of the second has been taken.
type two struct {
	reclaim.Sandboxes
	second chan struct{}
}

func (two) Tended(context.Context) []reclaim.Tended {
	every := schedule.Schedule{Every: time.Minute}
	return []reclaim.Tended{{ID: "i1", Running: true, Schedule: every}, {ID: "i2", Running: true, Schedule: every}}
}

func (s two) Snapshot(_ context.Context, id string, _ schedule.Keep) error {
	if id == "i2" {
		close(s.second)
	}
	<-s.second
	return nil
}

// A machine that keeps us waiting keeps no other from being looked after.
func TestNobodyWaitsForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &reclaim.Keeper{Sandboxes: two{second: make(chan struct{})}, Clock: time.Now, Short: func() bool { return false }, Log: slog.New(slog.DiscardHandler)}
		k.Look(t.Context())
	})
}
