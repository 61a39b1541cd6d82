package journal_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bulkhead/internal/journal"
	"bulkhead/internal/sqlite"

	"github.com/google/go-cmp/cmp"
)

// fakeStore fails where a test wants it to.
type fakeStore struct {
	add    func(context.Context, journal.Entry) (int64, error)
	remove func(context.Context, int64) error
	list   func(context.Context) ([]journal.Entry, error)
}

func (f fakeStore) Add(ctx context.Context, e journal.Entry) (int64, error) { return f.add(ctx, e) }
func (f fakeStore) Remove(ctx context.Context, id int64) error              { return f.remove(ctx, id) }
func (f fakeStore) List(ctx context.Context) ([]journal.Entry, error)       { return f.list(ctx) }

// onDisk returns a journal in a real database, and a function that opens the
// same database again as a new daemon would.
func onDisk(t *testing.T) (j *journal.Journal, reopen func() *journal.Journal) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bulkhead.db")
	reopen = func() *journal.Journal {
		db, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return journal.New(db.Journal())
	}
	return reopen(), reopen
}

func begin(t *testing.T, j *journal.Journal, e journal.Entry) int64 {
	t.Helper()
	id, err := j.Begin(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func idents(t *testing.T, j *journal.Journal) []string {
	t.Helper()
	pending, err := j.Pending(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range pending {
		all = append(all, e.Ident)
	}
	return all
}

// TestRecoverAfterCrashAnywhere runs an operation that makes and releases
// three resources, ends it after every step, and recovers with a new daemon.
func TestRecoverAfterCrashAnywhere(t *testing.T) {
	const steps = 12 // begin, make × 3, then release, end × 3
	for cut := range steps + 1 {
		t.Run(fmt.Sprintf("after step %d", cut), func(t *testing.T) {
			j, reopen := onDisk(t)
			exists := map[string]bool{}
			operate(t, j, exists, cut)

			release := func(_ context.Context, e journal.Entry) error {
				delete(exists, e.Ident)
				return nil
			}
			releases := map[journal.Kind]journal.Release{journal.Loop: release}
			next := reopen()
			if err := next.Recover(t.Context(), releases); err != nil {
				t.Fatal(err)
			}
			if len(exists) > 0 {
				t.Errorf("left on the host: %v", exists)
			}
			if left := idents(t, next); len(left) > 0 {
				t.Errorf("still pending: %v", left)
			}
		})
	}
}

func operate(t *testing.T, j *journal.Journal, exists map[string]bool, cut int) {
	t.Helper()
	var ids []int64
	names := []string{"a", "b", "c"}
	step := func(do func()) {
		if cut > 0 {
			do()
		}
		cut--
	}
	for _, name := range names {
		step(func() { ids = append(ids, begin(t, j, journal.Entry{Kind: journal.Loop, Owner: "i1", Ident: name})) })
		step(func() { exists[name] = true })
	}
	for i := len(names) - 1; i >= 0; i-- {
		step(func() { delete(exists, names[i]) })
		step(func() {
			if err := j.End(t.Context(), ids[i]); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestRecoverGoesBackwardsAndOn(t *testing.T) {
	j, _ := onDisk(t)
	for _, e := range []journal.Entry{
		{Kind: journal.Loop, Owner: "i1", Ident: "loop"},
		{Kind: journal.Mount, Owner: "i1", Ident: "mount"},
		{Kind: journal.Tap, Owner: "i1", Ident: "tap"},
		{Kind: journal.Process, Owner: "i1", Ident: "vmm"},
	} {
		begin(t, j, e)
	}
	busy := errors.New("device is busy")
	stuck := true
	var order []string
	release := func(_ context.Context, e journal.Entry) error {
		order = append(order, e.Ident)
		if e.Kind == journal.Mount && stuck {
			return busy
		}
		return nil
	}
	releases := map[journal.Kind]journal.Release{
		journal.Loop: release, journal.Mount: release, journal.Process: release,
	}

	err := j.Recover(t.Context(), releases)
	if !errors.Is(err, busy) || !strings.Contains(err.Error(), "tap of i1: nothing releases this kind") {
		t.Errorf("Recover = %v, want the busy mount and the unknown tap", err)
	}
	if diff := cmp.Diff([]string{"vmm", "mount", "loop"}, order); diff != "" {
		t.Errorf("order of releases: %s", diff)
	}
	if diff := cmp.Diff([]string{"mount", "tap"}, idents(t, j)); diff != "" {
		t.Errorf("pending after failures: %s", diff)
	}

	stuck = false
	releases[journal.Tap] = release
	if err := j.Recover(t.Context(), releases); err != nil {
		t.Fatal(err)
	}
	if left := idents(t, j); len(left) > 0 {
		t.Errorf("pending after the second run: %v", left)
	}
}

func TestRecoverStopsWhenCancelled(t *testing.T) {
	j, _ := onDisk(t)
	begin(t, j, journal.Entry{Kind: journal.Loop, Ident: "a"})
	begin(t, j, journal.Entry{Kind: journal.Loop, Ident: "b"})
	ctx, cancel := context.WithCancel(t.Context())
	err := j.Recover(ctx, map[journal.Kind]journal.Release{
		journal.Loop: func(context.Context, journal.Entry) error { cancel(); return context.Canceled },
	})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1 entries left") {
		t.Errorf("Recover = %v, want a cancellation with 1 entry left", err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, idents(t, j)); diff != "" {
		t.Error(diff)
	}
}

func TestEndAllEndsOnlyWhatFits(t *testing.T) {
	j, _ := onDisk(t)
	begin(t, j, journal.Entry{Kind: journal.Loop, Owner: "i1", Ident: "a"})
	begin(t, j, journal.Entry{Kind: journal.Loop, Owner: "i1", Ident: "b"})
	begin(t, j, journal.Entry{Kind: journal.Mount, Owner: "i1", Ident: "c"})
	begin(t, j, journal.Entry{Kind: journal.Loop, Owner: "i2", Ident: "d"})
	for range 2 {
		if err := j.EndAll(t.Context(), journal.Loop, "i1"); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"c", "d"}, idents(t, j)); diff != "" {
		t.Error(diff)
	}
}

func TestStoreErrorsAreReturned(t *testing.T) {
	broken := errors.New("disk is gone")
	one := []journal.Entry{{ID: 1, Kind: journal.Loop, Owner: "i1", Ident: "a"}}
	list := func(context.Context) ([]journal.Entry, error) { return one, nil }
	j := journal.New(fakeStore{
		add:    func(context.Context, journal.Entry) (int64, error) { return 0, broken },
		remove: func(context.Context, int64) error { return broken },
		list:   list,
	})
	blind := journal.New(fakeStore{list: func(context.Context) ([]journal.Entry, error) { return nil, broken }})
	ok := func(context.Context, journal.Entry) error { return nil }
	calls := map[string]func() error{
		"begin":   func() error { _, err := j.Begin(t.Context(), one[0]); return err },
		"end":     func() error { return j.End(t.Context(), 1) },
		"end all": func() error { return j.EndAll(t.Context(), journal.Loop, "i1") },
		"recover": func() error {
			return j.Recover(t.Context(), map[journal.Kind]journal.Release{journal.Loop: ok})
		},
		"recover without a list": func() error { return blind.Recover(t.Context(), nil) },
		"end all without a list": func() error { return blind.EndAll(t.Context(), journal.Loop, "i1") },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			if got, want := call(), broken; !errors.Is(got, want) {
				t.Errorf("error = %v, want %v", got, want)
			}
		})
	}
}

func TestBeginRefusesWhatNobodyCouldRelease(t *testing.T) {
	j, _ := onDisk(t)
	for _, e := range []journal.Entry{{Kind: journal.Loop}, {Ident: "a"}} {
		if _, err := j.Begin(t.Context(), e); err == nil {
			t.Errorf("Begin(%+v) succeeded", e)
		}
	}
	if got := idents(t, j); !slices.Equal(got, nil) {
		t.Errorf("pending = %v, want nothing", got)
	}
}
