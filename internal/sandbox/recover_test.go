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

// A record that names a snapshot that is gone names none.
func TestHeadThatIsGone(t *testing.T) {
	m := recovered(t, pooltest.New(t), sandbox.Record{ID: "i1", Name: "web", State: lifecycle.Crashed, Head: "sgone", Started: time.Now()})
	if s, err := m.Get("web"); err != nil || s.Head != "" {
		t.Errorf("it goes on from %q, %v", s.Head, err)
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

// Who removes the snapshot that a machine goes on from has it go on from the one
// before: a record never sends a crashed machine to what is gone.
func TestRemovedHead(t *testing.T) {
	p := pooltest.New(t)
	pooltest.Import(t, p, "i1")
	var ids [3]pool.SnapshotID
	for i := range ids {
		meta := pool.Meta{Sandbox: "i1", Cause: "manual", Created: time.Date(2026, 7, 1+i, 12, 0, 0, 0, time.UTC)}
		if i > 0 {
			meta.Parent = ids[i-1]
		}
		s, err := pooltest.Take(t.Context(), p, "i1", "state", meta)
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = s.ID
	}
	m := recovered(t, p, sandbox.Record{ID: "i1", Name: "web", State: lifecycle.Crashed, Head: ids[2], Started: time.Now()})
	for _, step := range []struct{ remove, head pool.SnapshotID }{{ids[2], ids[1]}, {ids[0], ids[1]}, {ids[1], ""}} {
		if err := m.RemoveSnapshot(t.Context(), "web", string(step.remove)); err != nil {
			t.Fatal(err)
		}
		if s, _, err := m.Timeline("web"); err != nil || s.Head != step.head {
			t.Errorf("without %s it goes on from %q, want %q (%v)", step.remove, s.Head, step.head, err)
		}
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
