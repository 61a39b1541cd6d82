package capacity_test

import (
	"strings"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/capacity"
	"bulkhead/internal/sandbox/live"
)

// TestTeamHasItsOwnLimit: it is told apart from a host that is full.
func TestTeamHasItsOwnLimit(t *testing.T) {
	l := capacity.Limits{Sandboxes: 9, Team: 2}
	if err := l.AnotherOf(1); err != nil {
		t.Errorf("a second one: %v", err)
	}
	if err := l.AnotherOf(2); !fault.Is(err, fault.Limited) || fault.HintOf(err) == "" {
		t.Errorf("a third one: %v, want %s and a way out", err, fault.Limited)
	}
	if err := (capacity.Limits{}).AnotherOf(1 << 20); err != nil {
		t.Errorf("no limit: %v", err)
	}
}

func TestLimits(t *testing.T) {
	l := capacity.Limits{Sandboxes: 3, Snapshots: 2, MemoryMiB: 1024, CPUs: 3}
	var taken capacity.Taken
	taken.Add(true, live.Size{CPUs: 1, MemoryMiB: 512})
	taken.Add(false, live.Size{CPUs: 8, MemoryMiB: 8192}) // paused: it costs nothing
	for _, tt := range []struct {
		what string
		err  error
		says string
	}{
		{"a third sandbox", l.Another(taken), ""},
		{"one that fits", l.Start(taken, live.Size{CPUs: 2, MemoryMiB: 512}), ""},
		{"too much memory", l.Start(taken, live.Size{CPUs: 1, MemoryMiB: 514}), "512 of 1024 MiB"},
		{"too many CPUs", l.Start(taken, live.Size{CPUs: 3, MemoryMiB: 64}), "1 of 3 CPUs"},
		{"a snapshot", l.Snapshot(1), ""},
		{"a snapshot too many", l.Snapshot(2), "2 snapshots"},
		{"a sandbox too many", l.Another(capacity.Taken{Sandboxes: 3}), "3 sandboxes"},
		{"no limits", capacity.Limits{}.Start(capacity.Taken{CPUs: 1 << 20}, live.Size{CPUs: 64, MemoryMiB: 1 << 20}), ""},
		{"no limit of sandboxes", capacity.Limits{}.Another(capacity.Taken{Sandboxes: 1 << 20}), ""},
	} {
		if tt.says == "" && tt.err != nil || tt.says != "" && (!fault.Is(tt.err, fault.Exhausted) || !strings.Contains(tt.err.Error(), tt.says)) {
			t.Errorf("%s: %v", tt.what, tt.err)
		}
	}
}
