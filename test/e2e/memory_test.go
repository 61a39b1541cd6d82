package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon"
	"bulkhead/test/harness"
	"bulkhead/test/inside"

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

// What a quiet machine does not need it gives back, takes again when a program
// wants it, and has again when it is used, restored or forked.
func TestQuietMachineGivesMemoryBack(t *testing.T) {
	clock, ticks := &future{}, make(chan time.Time)
	h := inside.Run(t, daemon.Daemon{Clock: clock.now, Ticks: ticks}, nil).Base()
	b := h.Create("quiet")
	h.Must("schedule", b.Name, "--suspend-after", "1h")
	pass := func(d time.Duration) {
		clock.ahead.Add(int64(d))
		ticks <- time.Time{}
		ticks <- time.Time{}
	}
	const cached = 150 // MiB
	b.Sh("head -c 150M /dev/urandom > /srv/f; sync; cat /srv/f > /dev/null")
	pass(0)
	full := b.Inspect().MemoryUsedMB
	pass(30 * time.Second)
	awaitBox(t, b, "smaller", func(s client.Sandbox) bool { return full-s.MemoryUsedMB > cached/2 })
	t.Logf("%d MiB of memory became %d", full, b.Inspect().MemoryUsedMB)
	if got := h.Must("events", "--sandbox", b.Name, "--kind", "sandbox.quiet"); !strings.Contains(got, "of 512 MiB") {
		t.Errorf("events are %s", got)
	}
	const free = "until test $(awk '/MemAvailable/ {print $2}' /proc/meminfo) -gt 300000; do sleep 0.1; done"
	b.Snapshot("small")
	h.Must("fork", b.Name, "--name", "fork")
	fork := h.Box("fork")
	defer h.Must("rm", "-f", fork.Name)
	fork.Sh(free)
	// No look is between: the machine itself takes what it has to have.
	b.Sh("python3 -c 'x = bytearray(330 << 20)'")
	pass(0)
	b.Sh(free)
	b.Rollback("small")
	b.Sh(free + "; test -s /srv/f")
}

// A machine that is never stopped gives memory back in the hours that are set for
// it, although the host has enough.
func TestMemoryComesBackAtNight(t *testing.T) {
	clock, ticks := &future{}, make(chan time.Time)
	night := time.Now().Add(12 * time.Hour)
	hours := night.Format("15:04") + "-" + night.Add(2*time.Hour).Format("15:04")
	h := inside.Run(t, daemon.Daemon{Clock: clock.now, Ticks: ticks}, map[string]string{"reclaim_hours": hours}).Base()
	b := h.Create("nightly")
	h.Must("schedule", b.Name, "--suspend-after", "0")
	pass := func(d time.Duration) {
		clock.ahead.Add(int64(d))
		for range 3 { // two looks that see that nothing happens, and one that waits for the second
			ticks <- time.Time{}
			clock.ahead.Add(int64(30 * time.Second))
		}
	}
	quiet := func() string { return h.Must("events", "--sandbox", b.Name, "--kind", "sandbox.quiet") }
	pass(0)
	if got := quiet(); strings.Contains(got, b.Name) || strings.Contains(got, "MiB") {
		t.Errorf("by day events are %s", got)
	}
	pass(12*time.Hour + 10*time.Minute)
	if got := quiet(); !strings.Contains(got, "of 512 MiB") {
		t.Errorf("at night events are %s", got)
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
