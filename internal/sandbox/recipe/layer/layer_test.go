package layer_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/recipe"
	"bulkhead/internal/sandbox/recipe/layer"

	"github.com/google/go-cmp/cmp"
)

// shelf is a pool of snapshots in memory, and what is kept in it.
type shelf struct {
	*layer.Shelf
	snaps []pool.Snapshot
	now   time.Time
}

func (s *shelf) Snapshots() ([]pool.Snapshot, error) { return slices.Clone(s.snaps), nil }

func (s *shelf) RemoveSnapshot(_ context.Context, id pool.SnapshotID) error {
	s.snaps = slices.DeleteFunc(s.snaps, func(snap pool.Snapshot) bool { return snap.ID == id })
	return nil
}

func newShelf() *shelf {
	s := &shelf{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	s.Shelf = &layer.Shelf{Pool: s, Clock: func() time.Time { return s.now }}
	return s
}

var facts = map[string]string{"vmm": "7.2", "channel": "1"}

// put keeps a layer, as a build does.
func (s *shelf) put(t *testing.T, id, key string, d recipe.Defaults) {
	t.Helper()
	meta, err := layer.Meta(key, d, live.Size{CPUs: 1, MemoryMiB: 512})
	if err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(time.Second)
	meta.Created, meta.Version = s.now, facts
	snap := pool.Snapshot{ID: pool.SnapshotID(id), Meta: meta}
	s.snaps = append(s.snaps, snap)
	if err := s.Put(t.Context(), snap); err != nil {
		t.Fatal(err)
	}
}

func (s *shelf) ids() (ids []string) {
	for _, snap := range s.snaps {
		ids = append(ids, string(snap.ID))
	}
	return ids
}

func TestFind(t *testing.T) {
	s := newShelf()
	holds := recipe.Defaults{Env: map[string]string{"A": "1"}, User: "u", Workdir: "/w"}
	s.put(t, "s1", "key", holds)
	s.snaps = append(s.snaps, pool.Snapshot{ID: "s2", Meta: pool.Meta{Cause: "manual", Labels: map[string]string{"layer": "key"}}})
	got, found, err := s.Find("key", facts)
	if diff := cmp.Diff(layer.Layer{Snapshot: "s1", Defaults: holds}, got); diff != "" || !found || err != nil {
		t.Errorf("%v, %v (-want +got):\n%s", found, err, diff)
	}
	for what, ask := range map[string]func() (layer.Layer, bool, error){
		"another key": func() (layer.Layer, bool, error) { return s.Find("other", facts) },
		"another VMM": func() (layer.Layer, bool, error) { return s.Find("key", map[string]string{"vmm": "8.0"}) },
	} {
		if got, found, err := ask(); found || err != nil {
			t.Errorf("%s: %v, %v, %v", what, got, found, err)
		}
	}
	s.put(t, "s3", "key", recipe.Defaults{})
	if got, _, err := s.Find("key", facts); got.Snapshot != "s3" || err != nil {
		t.Errorf("the newest is %v, %v", got, err)
	}
}

// What takes the place of another has it go, unless somebody may use that.
func TestPutReplaces(t *testing.T) {
	s := newShelf()
	s.put(t, "s1", "key", recipe.Defaults{})
	s.put(t, "s2", "key", recipe.Defaults{})
	if diff := cmp.Diff([]string{"s1", "s2"}, s.ids()); diff != "" {
		t.Errorf("at once (-want +got):\n%s", diff)
	}
	s.now = s.now.Add(time.Hour)
	s.put(t, "s3", "key", recipe.Defaults{})
	if diff := cmp.Diff([]string{"s3"}, s.ids()); diff != "" {
		t.Errorf("later (-want +got):\n%s", diff)
	}
}

func TestSweep(t *testing.T) {
	s := newShelf()
	other := pool.Snapshot{ID: "other", Meta: pool.Meta{Cause: "template"}}
	s.snaps = append(s.snaps, other)
	for i := range 101 {
		if i == 100 { // the oldest is used again
			if _, found, err := s.Find("key0", facts); !found || err != nil {
				t.Fatal(found, err)
			}
		}
		s.put(t, fmt.Sprint("s", i), fmt.Sprint("key", i), recipe.Defaults{})
	}
	if ids := s.ids(); len(ids) != 101 || slices.Contains(ids, "s1") || !slices.Contains(ids, "s0") {
		t.Errorf("%d are left: %v", len(ids), ids)
	}
	s.now = s.now.Add(6 * 24 * time.Hour)
	if _, found, err := s.Find("key50", facts); !found || err != nil {
		t.Fatal(found, err)
	}
	s.now = s.now.Add(3 * 24 * time.Hour)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"other", "s50"}, s.ids()); diff != "" {
		t.Errorf("after days (-want +got):\n%s", diff)
	}
	if err := s.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"other"}, s.ids()); diff != "" {
		t.Errorf("after all (-want +got):\n%s", diff)
	}
}
