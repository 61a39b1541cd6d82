package sandbox_test

import (
	"encoding/json"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/pool/pooltest"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/lease"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/schedule"
	"bulkhead/internal/vmm"
)

// busy has the owner of a sandbox wait while others ask something of it.
type busy struct {
	once sync.Once
	free chan struct{}
	on   bool
}

func (b *busy) storing(sandbox.Record) {
	if b.on {
		b.once.Do(func() { <-b.free })
	}
}

// inTurn has the owner do all of these in this order: each was asked for when
// those before it were not done.
func (b *busy) inTurn(t *testing.T, m *sandbox.Manager, all ...func() error) (errs []error) {
	b.on = true
	var done sync.WaitGroup
	done.Go(func() {
		if err := m.SetAsked(t.Context(), "web", json.RawMessage("{}")); err != nil {
			t.Error(err)
		}
	})
	errs = make([]error, len(all))
	for i, ask := range all {
		synctest.Wait()
		done.Go(func() { errs[i] = ask() })
	}
	synctest.Wait()
	close(b.free)
	done.Wait()
	return errs
}

// withOver is one sandbox whose time is over.
func withOver(t *testing.T, state lifecycle.State, what schedule.Expiry, do func(*testing.T, *sandbox.Manager, *busy, func() error)) {
	t.Helper()
	var b busy
	rec := sandbox.Record{
		ID: "i1", Name: "web", State: state, Size: live.Size{CPUs: 1, MemoryMiB: 4},
		Schedule: schedule.Schedule{Expires: time.Unix(1, 0), Expiry: what},
	}
	left{call: "never", storing: b.storing}.on(t, rec, func(t *testing.T, m *sandbox.Manager, _ *silent) {
		b.free = make(chan struct{})
		do(t, m, &b, func() error { return m.Expire(t.Context(), "web") })
	})
}

// Whoever was told that a sandbox has more time has it, however late that was
// asked for.
func TestTimeThatWasAskedForInTime(t *testing.T) {
	for _, what := range []schedule.Expiry{schedule.Remove, schedule.Pause} {
		t.Run(string(what), func(t *testing.T) {
			withOver(t, lifecycle.Running, what, func(t *testing.T, m *sandbox.Manager, b *busy, expire func() error) {
				later := time.Now().Add(time.Hour)
				for i, err := range b.inTurn(t, m, func() error {
					_, err := m.SetEnd(t.Context(), "web", lease.End{At: later})
					return err
				}, expire) {
					if err != nil {
						t.Errorf("request %d: %v", i, err)
					}
				}
				s, err := m.Get("web")
				if err != nil || s.State != lifecycle.Running || !s.Schedule.Expires.Equal(later) {
					t.Errorf("it is %s with its end at %s, %v", s.State, s.Schedule.Expires, err)
				}
			})
		})
	}
}

// What was changed meanwhile is not changed back.
func TestScheduleThatChangesAsTimeIsOver(t *testing.T) {
	withOver(t, lifecycle.Stopped, schedule.Pause, func(t *testing.T, m *sandbox.Manager, b *busy, expire func() error) {
		want := schedule.Schedule{Wake: "06:00", Expires: time.Now().Add(time.Hour), Expiry: schedule.Remove}
		for i, err := range b.inTurn(t, m, func() error {
			_, err := m.SetSchedule(t.Context(), "web", want)
			return err
		}, expire) {
			if err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		}
		if s, err := m.Get("web"); err != nil || s.Schedule.Wake != want.Wake || !s.Schedule.Expires.Equal(want.Expires) {
			t.Errorf("its schedule is %+v, %v", s.Schedule, err)
		}
	})
}

// The time of a machine is over while a snapshot is taken of it: it is paused
// after that, and not left to run for good.
func TestTimeIsOverDuringASnapshot(t *testing.T) {
	rec := sandbox.Record{
		ID: "i1", Name: "web", State: lifecycle.Running, Size: live.Size{CPUs: 1, MemoryMiB: 4},
		Schedule: schedule.Schedule{Expires: time.Unix(1, 0), Expiry: schedule.Pause},
	}
	left{call: "sync"}.on(t, rec, func(t *testing.T, m *sandbox.Manager, agent *silent) {
		taken := make(chan error, 1)
		go func() { taken <- snapshot(t.Context(), m) }()
		<-agent.reached
		if err := m.Expire(t.Context(), "web"); err != nil {
			t.Error(err)
		}
		if s, err := m.Get("web"); err != nil || s.Schedule.Expires.IsZero() {
			t.Errorf("it is %s and has no end any more, %v", s.State, err)
		}
		<-taken
	})
}

// monday is a snapshot of that name.
func monday(t *testing.T, p *pool.Pool) pool.SnapshotID {
	t.Helper()
	s, err := pooltest.Take(t.Context(), p, "i1", "state", pool.Meta{
		Sandbox: "i1", Name: "monday", Created: time.Unix(1, 0), CPUs: 1, MemoryMiB: 4, Version: live.Facts(vmm.Version{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.ID
}

// A snapshot that is removed while a rollback to it waits costs the rollback, not
// the machine.
func TestRollbackToWhatIsRemovedMeanwhile(t *testing.T) {
	var b busy
	var snap pool.SnapshotID
	rec := sandbox.Record{ID: "i1", Name: "web", State: lifecycle.Running, Size: live.Size{CPUs: 1, MemoryMiB: 4}}
	left{call: "never", storing: b.storing, before: func(t *testing.T, p *pool.Pool) {
		snap = monday(t, p)
	}}.on(t, rec, func(t *testing.T, m *sandbox.Manager, _ *silent) {
		b.free = make(chan struct{})
		errs := b.inTurn(t, m, func() error {
			return m.RemoveSnapshot(t.Context(), "web", string(snap))
		}, func() error {
			_, err := m.Rollback(t.Context(), "web", "monday", true)
			return err
		})
		if errs[0] != nil || !fault.Is(errs[1], fault.NotFound) {
			t.Errorf("errors are %v", errs)
		}
		wantState(t, m, lifecycle.Running)
	})
}

// A daemon that starts has a machine go on before anything is done with it: to go
// on in the middle of a snapshot would make memory and disk of different moments.
func TestMachineGoesOnBeforeAllElse(t *testing.T) {
	rec := sandbox.Record{ID: "i1", Name: "web", State: lifecycle.Running, Size: live.Size{CPUs: 1, MemoryMiB: 4}}
	left{call: "sync", held: true}.on(t, rec, func(t *testing.T, m *sandbox.Manager, agent *silent) {
		taken := make(chan error, 1)
		go func() { taken <- snapshot(t.Context(), m) }()
		synctest.Wait()
		select {
		case <-agent.reached:
			t.Error("a snapshot has begun of a machine that is about to be continued")
		default:
		}
		agent.goOn()
		<-taken
	})
}
