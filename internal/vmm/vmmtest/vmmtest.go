// Package vmmtest is what every driver must pass: the contract of package vmm,
// held against real machines with a guest of a few lines.
//
// A driver's test is
//
//	func TestDriver(t *testing.T) { vmmtest.Run(t, newDriver, devices) }
//
// One machine is booted and saved; nearly every case restores a copy of it,
// which takes a fraction of a second. Nothing is measured: times only turn
// hangs into failures.
//
// vmmtest knows no driver: it must not import one, and looks at machines
// through their contract, their folder and the files that they have open. It
// plays a daemon that is killed by starting the test binary again, so Run is
// to be called first in a test of its own, which is not parallel.
package vmmtest

import (
	"slices"
	"testing"

	"bulkhead/internal/vmm"
	"bulkhead/test/leak"
)

// Run checks that drivers which newDriver makes keep the contract. newDriver
// is called several times, also in other processes. devices lists all that
// their guests see: the virtio device numbers of the specification in order,
// "0x0001 0x0002".
func Run(t *testing.T, newDriver func(*testing.T) vmm.Driver, devices string) {
	t.Helper()
	if playDaemon(t, newDriver) {
		return
	}
	dir := folder(t)
	leak.Check(t, dir)
	leak.Guardian(t, dir, "/bin/rm", "-rf", dir)

	l := &lab{dir: dir, driver: newDriver(t), newDriver: newDriver, image: tinyImage(t)}
	l.prepare(t, devices)
	for _, c := range slices.Concat(lives(), channels(), starts(), daemons(), ends()) {
		t.Run(c.name, func(t *testing.T) { c.run(t, l) })
	}
}

// check is one case.
type check struct {
	name string
	run  func(*testing.T, *lab)
}

// prepare boots the machine that is saved for the cases, and checks what only
// one that booted can show.
func (l *lab) prepare(t *testing.T, devices string) {
	t.Helper()
	first := l.boot(t, l.newSpec(t))
	g := first.talk(t)
	t.Run("what is said before the guest listens arrives", func(t *testing.T) {
		if got := g.ask(t, "echo early"); got != "early" {
			t.Errorf("says %q", got)
		}
	})
	t.Run("the console is kept in the run directory", func(t *testing.T) {
		eventually(t, "the kernel's and the guest's words are there", func() bool {
			return first.kept(t, "Linux version") && first.kept(t, "guest is up")
		})
	})
	t.Run("the guest sees its devices and no others", func(t *testing.T) {
		if got := g.ask(t, "devices"); got != devices {
			t.Errorf("sees %s, want %s", got, devices)
		}
	})
	g.ask(t, "write before")
	l.count = g.number(t, "count")
	l.saved = first.save(t)
	t.Run("after a snapshot it goes on", func(t *testing.T) {
		wantMoment(t, g, l.count, "before")
	})
	do(t, first.Kill)
}
