package sandbox_test

import (
	"sync"
	"testing"
	"testing/synctest"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/capacity"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/live"
)

// withPast is one sandbox that runs and has a snapshot; no look into that gets
// further than to its network.
func withPast(t *testing.T, l left, do func(*testing.T, *sandbox.Manager)) {
	t.Helper()
	l.call, l.before = "never", func(t *testing.T, p *pool.Pool) { monday(t, p) }
	rec := sandbox.Record{ID: "i1", Name: "web", State: lifecycle.Running, Size: live.Size{CPUs: 1, MemoryMiB: 4}}
	l.on(t, rec, func(t *testing.T, m *sandbox.Manager, _ *silent) { do(t, m) })
}

// A machine that looks into the past takes room like any other, until it has
// ended.
func TestLooksTakeRoom(t *testing.T) {
	look := func(t *testing.T, m *sandbox.Manager) error {
		_, err := m.Look(t.Context(), "web", "monday", true)
		return err
	}
	withPast(t, left{limits: capacity.Limits{MemoryMiB: 7}}, func(t *testing.T, m *sandbox.Manager) {
		if err := look(t, m); !fault.Is(err, fault.Exhausted) {
			t.Errorf("beyond what there is: %v", err)
		}
	})
	withPast(t, left{limits: capacity.Limits{MemoryMiB: 8}}, func(t *testing.T, m *sandbox.Manager) {
		for range 3 {
			if err := look(t, m); err == nil || fault.Is(err, fault.Exhausted) {
				t.Errorf("one after the other: %v", err)
			}
		}
	})
}

// So many look into the past of one sandbox at once, whatever the host has.
func TestLooksAtOnce(t *testing.T) {
	var free chan struct{}
	withPast(t, left{isolating: func() { <-free }}, func(t *testing.T, m *sandbox.Manager) {
		free = make(chan struct{})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { m.Look(t.Context(), "web", "monday", true) })
		}
		synctest.Wait()
		if _, err := m.Look(t.Context(), "web", "monday", true); !fault.Is(err, fault.Exhausted) {
			t.Errorf("one too many: %v", err)
		}
		close(free)
		all.Wait()
	})
}
