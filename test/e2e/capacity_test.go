package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon"
	"bulkhead/test/inside"
)

// A host that is full says so, and what was paused makes room.
func TestCapacity(t *testing.T) {
	h := inside.Run(t, daemon.Daemon{Clock: time.Now}, map[string]string{
		"limits.sandboxes": "3", "limits.memory_mib": "1100", "limits.snapshots": "2",
	}).Base()
	one, two := h.Create("one"), h.Create("two")
	full := func(says string, args ...string) {
		t.Helper()
		if r := h.CLI(args...); r.Code != 7 && r.Code != 125 || !strings.Contains(r.Stderr, says) {
			t.Errorf("bulkhead %s: %d, %s", strings.Join(args, " "), r.Code, r.Stderr)
		}
	}
	full("1024 of 1100 MiB", "create", "base", "--name", "three")
	full("1024 of 1100 MiB", "fork", one.Name)
	h.Must("pause", one.Name)
	three := h.Create("three")
	full("3 sandboxes", "create", "base", "--name", "four")
	full("1024 of 1100 MiB", "exec", one.Name, "--", "true")
	full("1024 of 1100 MiB", "resume", one.Name)
	if got := one.Inspect().State; got != client.StatePaused {
		t.Errorf("refused, it is %s", got)
	}
	h.Must("rm", "-f", three.Name)
	one.Sh("true")
	h.Must("rm", "-f", one.Name)

	file := filepath.Join(t.TempDir(), "two.bulkhead")
	h.Must("export", two.Name, file)
	h.Must("import", file, "--name", "moved") // one more fits
	full("1024 of 1100 MiB", "import", file, "--name", "moved-too")
	h.Must("rm", "-f", "moved")

	two.Snapshot("a")
	two.Snapshot("b")
	full("2 snapshots", "snapshot", two.Name)
	h.Must("pause", two.Name) // what keeps a machine is no luxury
	two.Sh("true")
	h.Must("timeline", "rm", "-f", two.Name, "a")
	h.Must("timeline", "rm", "-f", two.Name, "b")
	two.Snapshot("c")
	h.Must("rm", "-f", two.Name)
	t.Run("room for snapshots", testRoomForSnapshots)
}

// A sandbox that has its share of the pool gets no more snapshots.
func testRoomForSnapshots(t *testing.T) {
	h := inside.Run(t, daemon.Daemon{Clock: time.Now}, map[string]string{"limits.pool_mib": "1500"}).Base()
	b := h.Create("keeper")
	b.Snapshot("small")
	b.Sh("head -c 700M /dev/urandom > /srv/f; sync")
	if r := h.CLI("snapshot", b.Name); r.Code != 7 || !strings.Contains(r.Stderr, "MiB of the pool, of 1500") {
		t.Errorf("beyond its share: %d, %s", r.Code, r.Stderr)
	}
}
