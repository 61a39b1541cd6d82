package sandbox_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"bulkhead/internal/pool"
	"bulkhead/internal/pool/pooltest"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/live"
)

// A daemon that was killed between a snapshot and its record has taken the
// snapshot all the same: the machine goes on from it. What was there for a fork
// alone goes.
func TestSnapshotsThatNoRecordTellsOf(t *testing.T) {
	p := pooltest.New(t)
	pooltest.Import(t, p, "i1")
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	take := func(cause string, parent pool.SnapshotID) pool.SnapshotID {
		at = at.Add(time.Minute)
		s, err := pooltest.Take(t.Context(), p, "i1", "state", pool.Meta{Sandbox: "i1", Cause: cause, Parent: parent, Created: at})
		if err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	monday := take("manual", "")
	tuesday := take("manual", monday) // then there was a rollback to monday
	started := at.Add(time.Second)
	left := take("before-rollback", monday)
	fresh := take("manual", monday)
	forked := take("fork", fresh)
	newest := take("schedule", forked)
	m := recovered(t, p, sandbox.Record{ID: "i1", Name: "web", State: lifecycle.Stopped, Head: monday, Started: started})
	s, snaps, err := m.Timeline("web")
	if err != nil {
		t.Fatal(err)
	}
	var ids []pool.SnapshotID
	for _, s := range snaps {
		ids = append(ids, s.ID)
	}
	if want := []pool.SnapshotID{monday, tuesday, left, fresh, newest}; !slices.Equal(ids, want) {
		t.Errorf("there are %v, want %v", ids, want)
	}
	if s.Head != newest {
		t.Errorf("it goes on from %s, want %s", s.Head, newest)
	}
}

// A machine that was written out by the time that its daemon was killed is
// paused, whether its VMM was ended or not.
func TestPauseThatNoRecordTellsOf(t *testing.T) {
	p := pooltest.New(t)
	pooltest.Import(t, p, "i1")
	began := time.Now()
	snap, err := pooltest.Take(t.Context(), p, "i1", "state", pool.Meta{Sandbox: "i1", Cause: "pause", Created: began.Add(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	m := recovered(t, p, sandbox.Record{ID: "i1", Name: "web", State: lifecycle.Pausing, Started: began})
	if s, err := m.Get("web"); err != nil || s.State != lifecycle.Paused || s.Head != snap.ID {
		t.Errorf("it is %+v, %v", s, err)
	}
}

// recovered returns a manager that has found a record.
func recovered(t *testing.T, p *pool.Pool, rec sandbox.Record) *sandbox.Manager {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	m := sandbox.New(sandbox.Parts{
		Machines: &live.Runner{
			Driver: driver{vm: &vm{done: make(chan struct{})}}, Pool: p, Journal: nothing{}, Network: unconnected{},
			RunDir: t.TempDir(), Clock: time.Now, Log: log,
		},
		Templates: nothing{}, Events: nothing{}, Clock: time.Now, Log: log,
		Store: store{rec},
	})
	if err := m.Recover(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}
