package e2e_test

import (
	"path/filepath"
	"testing"
	"time"

	"bulkhead/test/harness"

	"golang.org/x/sys/unix"
)

// What a guest has freed, the host has again: memory, and with it the pool's
// room.
func TestMemoryComesBack(t *testing.T) {
	h := host(t)
	b := h.Create("balloonist")
	const much = 300 // MiB
	b.Sh("mkdir /run/full && mount -t tmpfs -o size=350m full /run/full && head -c 300M /dev/urandom > /run/full/f")
	full, fullFile := b.Inspect().MemoryUsedMB, fileOf(t, h, b)
	if full < much || fullFile < much {
		t.Fatalf("with %d MiB in it, the machine takes %d MiB of memory and %d of the pool", much, full, fullFile)
	}
	b.Sh("umount /run/full")
	// The guest reports free pages two seconds after it has them
	// (mm/page_reporting.c), and QEMU gives them back one by one.
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	ctx := t.Context()
	for {
		now, file := b.Inspect().MemoryUsedMB, fileOf(t, h, b)
		if full-now > much*2/3 && fullFile-file > much*2/3 {
			t.Logf("%d MiB of memory became %d, %d MiB of the pool %d", full, now, fullFile, file)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("of %d MiB there are %d still, of %d MiB of the pool %d", full, now, fullFile, file)
		}
	}
}

// fileOf is what a machine's memory takes of the pool, in MiB.
func fileOf(t *testing.T, h *harness.Host, b *harness.Box) int {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Stat(filepath.Join(h.Dir, "pool", "machines", b.Inspect().ID, "memory"), &s); err != nil {
		t.Fatal(err)
	}
	return int(s.Blocks >> 11) // of 512 bytes
}
