package reclaim_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"bulkhead/internal/reclaim"
	"bulkhead/internal/sandbox/schedule"
)

// world has one machine and writes down what is done to it.
type world struct {
	now     time.Time
	machine reclaim.Tended
	paused  bool
	done    []string
	failing bool
}

func (w *world) Tended(context.Context) []reclaim.Tended {
	m := w.machine
	m.Running, m.Paused = !w.paused, w.paused
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
	w.machine.Snapshot = w.now
	return nil
}

func (w *world) Pause(context.Context, string) error {
	w.done = append(w.done, w.now.Format("15:04")+" pause")
	w.paused = true
	return nil
}

func (w *world) Wake(context.Context, string) error {
	w.done = append(w.done, w.now.Format("15:04")+" wake")
	w.paused = false
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
	return w, &reclaim.Keeper{Sandboxes: w, Clock: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler)}
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
			w, k := newWorld(schedule.Schedule{Idle: 10 * time.Minute})
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

func TestWake(t *testing.T) {
	w, k := newWorld(schedule.Schedule{Wake: "00:30", Idle: 10 * time.Minute})
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
	w, k := newWorld(schedule.Schedule{Expires: time.Unix(0, 0).Add(time.Hour), Idle: 2 * time.Hour})
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
