package caution_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/internal/caution"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/schedule"
)

// world has the sandbox i1 and its snapshots.
type world struct {
	now    time.Time
	before schedule.Before
	taken  []pool.Snapshot
	fails  error
	events []string
}

func (w *world) Get(string) (sandbox.Sandbox, error) {
	return sandbox.Sandbox{Record: sandbox.Record{ID: "i1", Schedule: schedule.Schedule{Before: w.before}}}, nil
}

func (w *world) Timeline(string) (sandbox.Sandbox, []pool.Snapshot, error) {
	return sandbox.Sandbox{}, w.taken, nil
}

func (w *world) SnapshotFor(_ context.Context, _ string, why sandbox.Why) (s pool.Snapshot, err error) {
	if w.fails != nil {
		return s, w.fails
	}
	s.Created, s.Cause, s.Labels = w.now, why.Cause, map[string]string{pool.LabelWhat: why.What}
	w.taken = append(w.taken, s)
	return s, nil
}

func newWorld(b schedule.Before) (*world, *caution.Guard) {
	w := &world{now: time.Unix(1_000_000, 0), before: b}
	return w, &caution.Guard{
		Sandboxes: w, Clock: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
		Event: func(_ context.Context, typ, id string, _ map[string]string) { w.events = append(w.events, typ+" "+id) },
	}
}

func (w *world) said() string {
	var all []string
	for _, s := range w.taken {
		all = append(all, s.Cause+": "+s.Labels[pool.LabelWhat])
	}
	return strings.Join(all, "; ")
}

func TestBefore(t *testing.T) {
	w, g := newWorld(schedule.Before{Commands: []string{"rm -r*"}, Contact: true, Interval: 10 * time.Minute})
	g.Exec(t.Context(), "i1", []string{"ls"})
	g.Exec(t.Context(), "i1", []string{"rm", "-rf", "/srv"})
	w.now = w.now.Add(9 * time.Minute)
	g.Exec(t.Context(), "i1", []string{"rm", "-rf", "/opt"})
	g.Contact(t.Context(), "i1", "api.example:443")
	w.now = w.now.Add(2 * time.Minute)
	g.Contact(t.Context(), "i1", "api.example:443")
	if got, want := w.said(), "before-exec: rm -rf /srv; before-contact: api.example:443"; got != want {
		t.Errorf("taken are %s, want %s", got, want)
	}
}

func TestNotWanted(t *testing.T) {
	w, g := newWorld(schedule.Before{})
	g.Exec(t.Context(), "i1", []string{"rm", "-rf", "/"})
	g.Contact(t.Context(), "i1", "api.example:443")
	if got := w.said(); got != "" || g.Heeds("i1") {
		t.Errorf("taken are %s", got)
	}
}

func TestFailureIsOnRecord(t *testing.T) {
	w, g := newWorld(schedule.Before{Commands: []string{"rm -r*"}})
	w.fails = errors.New("the pool is full")
	g.Exec(t.Context(), "i1", []string{"rm", "-rf", strings.Repeat("ä", 200)})
	if got := strings.Join(w.events, "; "); got != "snapshot.missed i1" {
		t.Errorf("events are %s", got)
	}
}

// two has two sandboxes; a snapshot of the first takes until there is one of the
// second.
type two struct {
	world
	second chan struct{}
}

func (w *two) Get(id string) (sandbox.Sandbox, error) {
	return sandbox.Sandbox{Record: sandbox.Record{ID: sandbox.ID(id), Schedule: schedule.Schedule{Before: schedule.Before{Contact: true}}}}, nil
}

func (w *two) SnapshotFor(_ context.Context, id string, _ sandbox.Why) (s pool.Snapshot, err error) {
	if id == "i2" {
		close(w.second)
	}
	<-w.second
	return s, nil
}

// A machine that keeps its own snapshot waiting keeps no other machine waiting.
func TestNobodyWaitsForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &two{second: make(chan struct{})}
		g := &caution.Guard{Sandboxes: w, Clock: time.Now, Log: slog.New(slog.DiscardHandler)}
		var all sync.WaitGroup
		all.Go(func() { g.Contact(t.Context(), "i1", "a.example:443") })
		synctest.Wait()
		g.Contact(t.Context(), "i2", "a.example:443")
		all.Wait()
	})
}

// Two risks at once have one snapshot.
func TestOneSnapshotForTwoRisks(t *testing.T) {
	w, g := newWorld(schedule.Before{Contact: true, Interval: time.Minute})
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { g.Contact(t.Context(), "i1", "a.example:443") })
	}
	all.Wait()
	if len(w.taken) != 1 {
		t.Errorf("taken are %s", w.said())
	}
}
