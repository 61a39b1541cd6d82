package audit_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"strings"
	"testing"

	"bulkhead/internal/audit"
	"bulkhead/internal/fault"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 1000)
	all := fill(t, l, 20)
	var odd []audit.Event
	for i := 1; i < len(all); i += 2 {
		odd = append(odd, all[i])
	}
	tests := map[string]struct {
		q    audit.Query
		want []audit.Event
	}{
		"everything":                {audit.Query{}, all},
		"since the middle":          {audit.Query{Since: 11}, all[11:]},
		"since one before the last": {audit.Query{Since: 19}, all[19:]},
		"since the last":            {audit.Query{Since: 20}, nil},
		"since the future":          {audit.Query{Since: 1 << 63}, nil},
		"since the largest number":  {audit.Query{Since: 1<<64 - 1}, nil},
		"of one sandbox":            {audit.Query{SandboxID: "i1"}, odd},
		"of a type":                 {audit.Query{Type: "sandbox.created"}, all},
		"of a kind of types":        {audit.Query{Type: "sandbox"}, all},
		"of half a word":            {audit.Query{Type: "sand"}, nil},
		"after a time":              {audit.Query{After: all[1].Time}, all[2:]},
		"of no sandbox":             {audit.Query{SandboxID: "i9"}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, read(t, l, tt.q)); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("stops when the reader does", func(t *testing.T) {
		n := 0
		for range l.Read(t.Context(), audit.Query{}) {
			if n++; n == 2 {
				break
			}
		}
		if n != 2 {
			t.Errorf("events = %d, want 2", n)
		}
	})
}

// follow starts a reader that is told when to look.
func follow(t *testing.T, ctx context.Context, l *audit.Log, q audit.Query) func() (audit.Event, error, bool) {
	t.Helper()
	q.Follow = true
	next, stop := iter.Pull2(l.Read(ctx, q))
	t.Cleanup(stop)
	return next
}

func TestFollowGetsWhatComesLater(t *testing.T) {
	l := open(t, t.TempDir(), 1000)
	first := fill(t, l, 3)
	next := follow(t, t.Context(), l, audit.Query{Since: 1})
	done := make(chan []audit.Event)
	go func() {
		var got []audit.Event
		for {
			e, err, ok := next()
			if !ok {
				done <- got
				return
			}
			if err != nil {
				t.Error(err)
			}
			got = append(got, e)
		}
	}()
	later := fill(t, l, 30) // several segments on
	closeLog(t, l)
	if diff := cmp.Diff(append(first[1:], later...), <-done); diff != "" {
		t.Error(diff)
	}
}

func TestSlowFollowerHoldsNobodyUpAndMissesNothing(t *testing.T) {
	l := open(t, t.TempDir(), 1000)
	want := fill(t, l, 1)
	next := follow(t, t.Context(), l, audit.Query{})
	var got []audit.Event
	take := func() {
		e, err, ok := next()
		if err != nil || !ok {
			t.Fatalf("next = %v, %v", err, ok)
		}
		got = append(got, e)
	}
	take()
	want = append(want, fill(t, l, 50)...) // nobody reads meanwhile
	for len(got) < len(want) {
		take()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	l := open(t, t.TempDir(), 0)
	fill(t, l, 1)
	ctx, cancel := context.WithCancel(t.Context())
	next := follow(t, ctx, l, audit.Query{})
	if _, err, ok := next(); err != nil || !ok {
		t.Fatalf("first event = %v, %v", err, ok)
	}
	cancel()
	if _, err, _ := next(); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel = %v, want %v", err, context.Canceled)
	}
	if _, _, ok := next(); ok {
		t.Error("something comes after the error")
	}
}

func TestReadNamesDamage(t *testing.T) {
	tests := map[string]func(t *testing.T, paths []string){
		"a changed line": func(t *testing.T, paths []string) {
			b, err := os.ReadFile(paths[1])
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(b), "created", "removed", 1)
			if err := os.WriteFile(paths[1], []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a missing segment": func(t *testing.T, paths []string) {
			if err := os.Remove(paths[1]); err != nil {
				t.Fatal(err)
			}
		},
		"an emptied segment": func(t *testing.T, paths []string) {
			if err := os.Truncate(paths[1], 0); err != nil {
				t.Fatal(err)
			}
		},
		"a log that is gone": func(t *testing.T, paths []string) {
			for _, p := range paths {
				if err := os.Remove(p); err != nil {
					t.Fatal(err)
				}
			}
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, dir, 1000)
			fill(t, l, 20)
			damage(t, segments(t, dir))
			var err error
			for _, err = range l.Read(t.Context(), audit.Query{}) {
			}
			if got, want := fault.KindOf(err), fault.Corrupt; got != want {
				t.Errorf("kind of %v = %q, want %q", err, got, want)
			}
		})
	}
}
