package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/client"
	"bulkhead/test/harness"
	"bulkhead/test/leak"
	"bulkhead/test/powercut"

	"golang.org/x/sys/unix"
)

// outage is a host whose state directory is on a disk that loses what was not
// flushed when its power goes.
type outage struct {
	h          *harness.Host
	disk       *powercut.Disk
	dir, state string
	moves      *rand.Rand
	// taken are the snapshots, in order.
	taken []moment
}

// moment is a snapshot: when taking it was begun and when it was confirmed, and
// what /srv/f is in it.
type moment struct {
	id, content string
	begun, done powercut.Moment
}

// Whenever a host loses its power, every snapshot that was committed restores
// and its disk is in order, and of those that were not there is no trace. What
// a guest has synced itself is there when it boots.
func TestPowerLoss(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	o := newOutage(t, seed)
	b := o.h.Create("unlucky")
	o.work(t, b, "one")
	o.work(t, b, "two")
	b.Sh("echo durable > /srv/durable; sync")
	synced := o.now(t)
	o.work(t, b, "three")
	sleeper := o.h.Create("sleeper")
	o.h.Must("pause", sleeper.Name)
	last := o.now(t)
	o.end(t)

	three := o.taken[2]
	for what, at := range map[string]powercut.Moment{
		"before anything":       o.taken[0].begun,
		"after two":             o.taken[1].done,
		"in the middle of one":  o.within(o.taken[0]),
		"in the middle of two":  o.within(o.taken[1]),
		"late in three":         three.begun + (three.done-three.begun)*9/10,
		"after what was synced": synced,
		"after all":             last,
	} {
		t.Run(what, func(t *testing.T) {
			o.lose(t, at)
			defer o.end(t)
			if at == synced {
				o.boot(t) // before it is gone back to other moments
			}
			o.check(t, at)
			if at != last {
				return
			}
			if got := o.h.With(t).Box(sleeper.Name).Inspect(); got.State != client.StatePaused {
				t.Errorf("what was paused is %s", got.State)
			}
			o.h.With(t).Box(sleeper.Name).Sh("true")
		})
	}
}

func newOutage(t *testing.T, seed uint64) *outage {
	t.Helper()
	dir, err := os.MkdirTemp("", "bh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	o := &outage{dir: dir, state: filepath.Join(dir, "state"), moves: rand.New(rand.NewPCG(seed, 0))}
	disk := filepath.Join(dir, "disk")
	for _, folder := range []string{disk, o.state} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	leak.Guardian(t, dir, "umount", "--lazy", o.state)
	o.h = harness.On(t, o.state)
	o.disk = powercut.New(t, disk, 6<<30)
	if err := o.disk.Mount(t.Context(), o.state); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.end(t) })
	if err := o.h.Serve(); err != nil {
		t.Fatal(err)
	}
	o.h.Base()
	return o
}

func (o *outage) now(t *testing.T) powercut.Moment {
	t.Helper()
	at, err := o.disk.Now()
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// within is a moment in the middle of a snapshot.
func (o *outage) within(m moment) powercut.Moment {
	return m.begun + powercut.Moment(o.moves.Int64N(int64(m.done-m.begun)))
}

// work has the guest write, and takes a snapshot.
func (o *outage) work(t *testing.T, b *harness.Box, content string) {
	t.Helper()
	b.Sh("echo " + content + " > /srv/f; head -c 8M /dev/urandom > /srv/noise")
	m := moment{content: content, begun: o.now(t)}
	m.id = b.Snapshot(content).ID
	m.done = o.now(t)
	o.taken = append(o.taken, m)
}

// end ends the daemon, its VMMs and the mount, if they are there.
func (o *outage) end(t *testing.T) {
	t.Helper()
	o.h.Kill()
	if r := o.h.CLI("debug", "release", "--force", "--state-dir", o.state); r.Code != 0 {
		t.Error(r.Stderr)
	}
	if err := unix.Unmount(o.state, 0); err != nil && err != unix.EINVAL { // EINVAL: nothing is mounted
		t.Fatalf("unmount state directory: %v", err)
	}
}

// lose starts the daemon on what the disk has if its power goes at a moment.
func (o *outage) lose(t *testing.T, at powercut.Moment) {
	t.Helper()
	image := filepath.Join(o.dir, fmt.Sprint("cut-", at))
	if err := o.disk.Cut(at, image, func() bool { return o.moves.IntN(2) == 0 }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(image) })
	if err := powercut.Mount(t.Context(), image, o.state); err != nil {
		t.Fatal(err)
	}
	if err := o.h.Serve(); err != nil {
		t.Fatal(err)
	}
}

// check compares the snapshots that are there with those that must be.
func (o *outage) check(t *testing.T, at powercut.Moment) {
	t.Helper()
	h := o.h.With(t)
	h.Must("events", "verify")
	if left := folder(t, filepath.Join(o.state, "pool", "staging")); len(left) != 0 {
		t.Errorf("half-made things are left: %v", left)
	}
	var line client.Timeline
	h.JSON(&line, "timeline", "unlucky")
	there := map[string]bool{}
	for _, s := range line.Snapshots {
		there[s.ID] = true
	}
	for _, m := range o.taken {
		if at >= m.done && !there[m.id] {
			t.Errorf("snapshot %s was committed and is lost", m.content)
		}
		if !there[m.id] {
			continue
		}
		delete(there, m.id)
		if at < m.begun {
			t.Errorf("snapshot %s is there before it was taken", m.content)
		}
		fsck(t, filepath.Join(o.state, "pool", "snapshots", m.id, "disk"))
		h.Must("rollback", "unlucky", m.id, "--discard")
		if got := h.Box("unlucky").Sh("cat /srv/f"); got != m.content {
			t.Errorf("snapshot %s has %q", m.content, got)
		}
	}
	if len(there) != 0 {
		t.Errorf("snapshots that nobody took: %v", there)
	}
}

// boot has the machine boot from its disk as it is.
func (o *outage) boot(t *testing.T) {
	t.Helper()
	h := o.h.With(t)
	h.Must("start", "unlucky")
	if got := h.Box("unlucky").Sh("cat /srv/durable"); got != "durable" {
		t.Errorf("what was synced is %q", got)
	}
}

// fsck checks the file system of a snapshot's disk, which was mounted: its
// journal comes first, as it does in a guest.
func fsck(t *testing.T, disk string) {
	t.Helper()
	clone := filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(disk))), "fsck")
	defer os.Remove(clone)
	for _, args := range [][]string{
		{"cp", "--reflink=always", disk, clone},
		{"e2fsck", "-p", "-E", "journal_only", clone},
		{"e2fsck", "-f", "-n", clone},
	} {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", strings.Join(args, " "), err, out)
			return
		}
	}
}
