package caution_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
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
