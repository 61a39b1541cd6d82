package watchdog_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/internal/sandbox/schedule"
	"bulkhead/internal/watchdog"
)

// world has one machine and writes down what is done to it.
type world struct {
	mu      sync.Mutex
	now     time.Time
	machine watchdog.Watched
	ailment string
	silent  bool
	pasts   []watchdog.Past
	// heals says whether a repair helps.
	heals bool
	done  []string
}

func (w *world) Watched(context.Context) []watchdog.Watched { return []watchdog.Watched{w.machine} }

func (w *world) Pulse(context.Context, string) (string, error) {
	if w.silent {
		return "", errors.New("no answer")
	}
	return w.ailment, nil
}

func (w *world) Pasts(context.Context, string) ([]watchdog.Past, error) { return w.pasts, nil }

func (w *world) repaired(how string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = append(w.done, how)
	if w.heals {
		w.ailment, w.silent, w.machine.Crashed = "", false, ""
	}
	return nil
}

func (w *world) Reboot(context.Context, string) error          { return w.repaired("reboot") }
func (w *world) Rollback(_ context.Context, _, s string) error { return w.repaired("rollback " + s) }

func (w *world) Tell(_ context.Context, typ, _ string, fields map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = append(w.done, strings.TrimPrefix(typ, "sandbox."))
}

func newWorld(r schedule.Remedy) (*world, *watchdog.Dog) {
	now := time.Unix(1_000_000, 0)
	w := &world{now: now, machine: watchdog.Watched{ID: "i1", Remedy: r}}
	for i, id := range []string{"s3", "s2", "s1"} {
		w.pasts = append(w.pasts, watchdog.Past{ID: id, Taken: now.Add(-time.Duration(i) * time.Hour)})
	}
	return w, &watchdog.Dog{Sandboxes: w, Clock: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler)}
}

func (w *world) look(d *watchdog.Dog, times int) {
	for range times {
		w.now = w.now.Add(10 * time.Second)
		d.Look(context.Background())
		d.Wait()
	}
}

func (w *world) expect(t *testing.T, want string) {
	t.Helper()
	if got := strings.Join(w.done, ", "); got != want {
		t.Errorf("done is %s, want %s", got, want)
	}
	w.done = nil
}

func TestNothingWanted(t *testing.T) {
	w, d := newWorld("")
	w.silent = true
	w.look(d, 2)
	w.expect(t, "")
	w.look(d, 5)
	w.expect(t, "unhealthy")
	if got := d.Unhealthy("i1"); !strings.Contains(got, "does not answer") {
		t.Errorf("it is %q", got)
	}
	w.silent = false
	w.look(d, 1)
	w.expect(t, "healthy")
	if got := d.Unhealthy("i1"); got != "" {
		t.Errorf("it is %q", got)
	}
}

func TestPassingAilment(t *testing.T) {
	w, d := newWorld(schedule.Reboot)
	for range 5 {
		w.ailment = "/bin/sh is gone"
		w.look(d, 1)
		w.ailment = ""
		w.look(d, 1)
	}
	w.expect(t, "")
}

func TestRepairs(t *testing.T) {
	for _, tt := range []struct {
		remedy schedule.Remedy
		ill    func(*world)
		want   string
	}{
		{schedule.Reboot, func(w *world) { w.silent = true }, "unhealthy, reboot, repaired"},
		{schedule.Reboot, func(w *world) { w.machine.Crashed = "guest panicked" }, "unhealthy, reboot, repaired"},
		{schedule.Rollback, func(w *world) { w.ailment = "/bin/sh is gone" }, "unhealthy, rollback s3, repaired"},
	} {
		w, d := newWorld(tt.remedy)
		w.heals = true
		w.look(d, 3)
		tt.ill(w)
		w.look(d, 10)
		w.expect(t, tt.want)
	}
}

// A snapshot that was ill already is not gone back to twice, and a machine that
// no repair helps is left in peace for the rest of the hour.
func TestRepairsAreBounded(t *testing.T) {
	w, d := newWorld(schedule.Rollback)
	w.ailment = "the disk has become read-only"
	w.pasts = append([]watchdog.Past{{ID: "s4", Taken: w.now.Add(time.Hour)}}, w.pasts...)
	w.look(d, 100)
	got := slices.DeleteFunc(w.done, func(s string) bool { return !strings.HasPrefix(s, "rollback") })
	if want := []string{"rollback s3", "rollback s2", "rollback s1"}; !slices.Equal(got, want) {
		t.Errorf("done is %v, want %v", got, want)
	}
	w.done = nil
	w.now = w.now.Add(2 * time.Hour)
	w.look(d, 2)
	w.expect(t, "rollback s3, repaired") // s4 was taken of an ill machine
}

func TestNothingToGoBackTo(t *testing.T) {
	w, d := newWorld(schedule.Rollback)
	w.pasts, w.machine.Crashed = nil, "guest panicked"
	w.look(d, 10)
	w.expect(t, "unhealthy, not_repaired, not_repaired, not_repaired")
}
