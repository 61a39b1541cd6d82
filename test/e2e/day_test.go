package e2e_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon"
	"bulkhead/test/harness"
	"bulkhead/test/inside"
)

// day is a day of a sandbox, on a host whose clock runs as the test wants.
type day struct {
	t     *testing.T
	h     *harness.Host
	b     *harness.Box
	clock *future
	ticks chan time.Time
}

// A day in the life of a sandbox that has a schedule: it works, idles, is
// paused, is woken by a request, destroys and repairs itself, is rolled back by
// two snapshots, forked three ways, moved, and removed. Nothing of it is left.
func TestDayInTheLife(t *testing.T) {
	d := &day{t: t, clock: &future{}, ticks: make(chan time.Time)}
	d.h = inside.Run(t, daemon.Daemon{Clock: d.clock.now, Ticks: d.ticks}, nil).Base()
	d.b = d.h.Create("otter")
	d.h.Must("schedule", d.b.Name, "--every", "15m", "--keep", "8,0,0", "--idle-timeout", "1h", "--on-unhealthy", "rollback")
	story := follow(t, d.h, d.b)

	for hour := range 4 {
		d.b.Sh(fmt.Sprintf("echo %d >> /srv/diary", hour))
		d.pass(16 * time.Minute)
	}
	pid := d.b.Inspect().VMM.PID
	for range 5 { // nobody does anything
		d.pass(16 * time.Minute)
	}
	story.story(t, "snapshot.taken", "snapshot.taken", "snapshot.taken", "snapshot.taken", "sandbox.paused")
	gone(t, d.h, d.b, pid)

	d.wantDiary(d.b, 4) // asks something of it
	story.story(t, "sandbox.resumed")
	d.b.Sh("echo 4 >> /srv/diary")
	d.pass(16 * time.Minute)

	d.b.Exec("rm", "-rf", "--no-preserve-root", "/")
	for range 3 {
		d.pass(0)
	}
	story.story(t, "sandbox.unhealthy", "sandbox.rolled_back", "sandbox.repaired")
	d.wantDiary(d.b, 5)

	line := d.scheduled()
	d.h.Must("rollback", d.b.Name, line[len(line)-3])
	d.wantDiary(d.b, 3)
	d.fork()
	abroad := d.move()

	d.h.Must("rm", "-f", d.b.Name, abroad, "pup-1", "pup-2", "pup-3")
	story.story(t, "sandbox.removed")
	var left []client.Sandbox
	d.h.JSON(&left, "ls")
	if len(left) != 0 {
		t.Errorf("sandboxes are left: %+v", left)
	}
	noOrphans(t, d.h.Dir, nil)
	if snaps := folder(t, filepath.Join(d.h.Dir, "pool", "snapshots")); len(snaps) != 1 {
		t.Errorf("besides the template's snapshot there are %v", snaps)
	}
	d.h.Must("events", "verify")
}

// pass lets time pass; the second tick is taken once the first was seen to.
func (d *day) pass(span time.Duration) {
	d.clock.ahead.Add(int64(span))
	d.ticks <- time.Time{}
	d.ticks <- time.Time{}
}

// wantDiary checks that a machine has written so many lines.
func (d *day) wantDiary(b *harness.Box, lines int) {
	d.t.Helper()
	var want []string
	for i := range lines {
		want = append(want, fmt.Sprint(i))
	}
	if got := b.Sh("cat /srv/diary"); got != strings.Join(want, "\n") {
		d.t.Errorf("the diary of %s has %q, want %d lines", b.Name, got, lines)
	}
}

// scheduled lists the snapshots that the schedule has had taken.
func (d *day) scheduled() (ids []string) {
	d.t.Helper()
	var line client.Timeline
	d.h.JSON(&line, "timeline", d.b.Name)
	for _, s := range line.Snapshots {
		if s.Cause == "schedule" {
			ids = append(ids, s.ID)
		}
	}
	if len(ids) != 5 {
		d.t.Fatalf("there are %d scheduled snapshots: %+v", len(ids), line.Snapshots)
	}
	return ids
}

// fork makes three of the machine, which do not know of each other.
func (d *day) fork() {
	d.t.Helper()
	d.h.Must("fork", d.b.Name, "--count", "3", "--name", "pup")
	d.t.Cleanup(func() { d.h.CLI("rm", "-f", "pup-1", "pup-2", "pup-3") })
	for i := range 3 {
		pup := d.h.Box(fmt.Sprintf("pup-%d", i+1))
		d.wantDiary(pup, 3)
		pup.Sh("echo " + pup.Name + " >> /srv/diary")
		if got := pup.Sh("tail -n +4 /srv/diary; hostname"); got != pup.Name+"\n"+pup.Name {
			d.t.Errorf("%s has %q", pup.Name, got)
		}
	}
	d.wantDiary(d.b, 3)
}

// move takes the machine out as a file and back in as another.
func (d *day) move() (name string) {
	d.t.Helper()
	file := filepath.Join(d.t.TempDir(), "otter.bulkhead")
	d.h.Must("export", d.b.Name, file)
	d.h.Must("import", file, "--name", "abroad")
	d.t.Cleanup(func() { d.h.CLI("rm", "-f", "abroad") })
	d.wantDiary(d.h.Box("abroad"), 3)
	return "abroad"
}
