package vmmtest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"bulkhead/internal/vmm"
)

func lives() []check {
	return []check{
		{"versions are complete and equal", sameVersion},
		{"a stopped machine stands still and goes on", standsStill},
		{"restored again and again it is that of the moment", restoredOften},
		{"a restored machine is saved and restored again", savedAgain},
		{"calls from everywhere wait for each other", manyCallers},
		{"memory is asked for, and given again, of a machine that stands still too", ballooned},
		{"a second VMM on its disk is refused", diskIsLocked},
		{"a console that is flooded stays bounded", consoleFlood},
	}
}

func sameVersion(t *testing.T, l *lab) {
	var all []vmm.Version
	for _, d := range []vmm.Driver{l.driver, l.driver, l.newDriver(t)} {
		v, err := d.Version(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	v := all[0]
	if all[1] != v || all[2] != v {
		t.Errorf("differ: %+v", all)
	}
	if v.Driver == "" || v.VMM == "" || v.Machine == "" || v.Accel == "" || v.CPU == "" {
		t.Errorf("incomplete: %+v", v)
	}
}

func standsStill(t *testing.T, l *lab) {
	m := l.restore(t)
	g := m.talk(t)
	if got := g.ask(t, "work 100"); got != "working" { // and it is for a while
		t.Fatalf("says %q", got)
	}
	do(t, m.Stop, m.Stop)
	before, after := digest(t, m.spec.Memory), digest(t, m.spec.Memory)
	if before != after {
		t.Error("the memory of a stopped machine changes")
	}
	do(t, m.Continue, m.Continue)
	if got := g.line(t); got != "ok" {
		t.Errorf("says %q", got)
	}
	if digest(t, m.spec.Memory) == after {
		t.Error("the memory of a running machine does not change")
	}
}

func restoredOften(t *testing.T, l *lab) {
	for range 3 {
		m := l.restore(t)
		g := m.talk(t)
		wantMoment(t, g, l.count, "before")
		g.ask(t, "write after")
		do(t, m.Kill)
	}
}

func savedAgain(t *testing.T, l *lab) {
	at := l.saved
	const generations = 2
	for i := range generations {
		m := l.restoreFrom(t, at)
		g := m.talk(t)
		g.ask(t, "count")
		g.ask(t, fmt.Sprint("write generation ", i+1))
		at = m.save(t)
		g.ask(t, "count") // after the moment
		do(t, m.Kill)
	}
	wantMoment(t, l.restoreFrom(t, at).talk(t), l.count+generations, fmt.Sprint("generation ", generations))
}

// wantMoment checks that g is in the machine that has counted to count and
// has the word disk on its disk, and has it count on.
func wantMoment(t *testing.T, g *guest, count int, disk string) {
	t.Helper()
	if got, want := g.number(t, "count"), count+1; got != want {
		t.Errorf("counts %d, want %d", got, want)
	}
	if got := g.ask(t, "read"); got != disk {
		t.Errorf("disk holds %q, want %q", got, disk)
	}
}

func manyCallers(t *testing.T, l *lab) {
	m := l.restore(t)
	g := m.talk(t)
	var all sync.WaitGroup
	for i := range 40 {
		call := m.Stop
		if i%2 == 0 {
			call = m.Continue
		}
		all.Go(func() {
			if err := call(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	do(t, m.Continue)
	if got := g.ask(t, "echo calm"); got != "calm" {
		t.Errorf("says %q", got)
	}
}

func ballooned(t *testing.T, l *lab) {
	m := l.restore(t)
	g := m.talk(t)
	leave := func(mib int) func(context.Context) error {
		return func(ctx context.Context) error { return m.Balloon(ctx, mib) }
	}
	do(t, leave(memoryMiB/2), leave(memoryMiB/2), m.Stop, leave(2*memoryMiB), m.Continue)
	if got := g.ask(t, "echo light"); got != "light" {
		t.Errorf("says %q", got)
	}
}

func diskIsLocked(t *testing.T, l *lab) {
	m := l.restore(t)
	second := l.newSpec(t)
	second.Disk = m.spec.Disk
	wantLocked := func() {
		t.Helper()
		if other, err := l.driver.Boot(t.Context(), second); err == nil {
			l.own(t, other, second)
			t.Fatal("a second VMM opened the disk")
		}
		if n := len(holders(t, second.Disk)); n != 1 {
			t.Errorf("%d processes have the disk open, want 1", n)
		}
	}
	wantLocked()
	m.save(t) // a driver may have to let go of the disk for that
	wantLocked()
	wantMoment(t, m.talk(t), l.count, "before")
	do(t, m.Kill)
	l.boot(t, second) // so it was the disk that was refused, nothing else
}

func consoleFlood(t *testing.T, l *lab) {
	m := l.restore(t)
	const printed, most = 768 << 10, 640 << 10
	if got := m.talk(t).ask(t, fmt.Sprint("flood ", printed>>10)); got != "ok" {
		t.Errorf("says %q", got)
	}
	do(t, m.Kill)
	var kept int
	for _, b := range m.runFiles(t) {
		kept += len(b)
	}
	if least := 64 << 10; kept < least || kept > most {
		t.Errorf("%d bytes are kept, want %d to %d", kept, least, most)
	}
}
