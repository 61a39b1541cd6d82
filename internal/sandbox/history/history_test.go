package history_test

import (
	"slices"
	"testing"
	"time"

	"bulkhead/internal/pool"
	"bulkhead/internal/pool/pooltest"
	"bulkhead/internal/sandbox/history"
)

func TestMain(m *testing.M) { pooltest.Main(m) }

// A pause makes the pauses before it needless, but not those that a rollback
// has left.
func TestSupersede(t *testing.T) {
	p := pooltest.New(t)
	pooltest.Import(t, p, "i1")
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	take := func(name, cause string, parent pool.Snapshot) pool.Snapshot {
		at = at.Add(time.Minute)
		s, err := pooltest.Take(t.Context(), p, "i1", "state", pool.Meta{
			Sandbox: "i1", Name: name, Cause: cause, Parent: parent.ID, Created: at,
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	h := history.History{Pool: p, ID: "i1", Name: "web"}
	monday := take("monday", "manual", pool.Snapshot{})
	older := take("", "pause", monday)
	left := take("", "pause", monday)
	named := take("mine", "pause", monday)
	come := take("", "pause", named)
	between := take("", "schedule", come)
	newest := take("", "pause", between)
	if err := h.Supersede(t.Context(), newest, 1); err != nil {
		t.Fatal(err)
	}
	snaps, err := h.All()
	if err != nil {
		t.Fatal(err)
	}
	var ids []pool.SnapshotID
	for _, s := range snaps {
		ids = append(ids, s.ID)
	}
	if want := []pool.SnapshotID{monday.ID, left.ID, named.ID, between.ID, newest.ID}; !slices.Equal(ids, want) {
		t.Errorf("there are %v, want %v without %s and %s", ids, want, older.ID, come.ID)
	}
}
