package pool_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/internal/pool"
	"bulkhead/internal/pool/pooltest"
	"bulkhead/test/powercut"

	"golang.org/x/sys/unix"
)

// life is what a pool has been through on a disk.
type life struct {
	p     *pool.Pool
	disk  *powercut.Disk
	moves *rand.Rand
	past  []lived
}

// lived is one snapshot in it: when it was begun and done, and when its removal
// was begun, 0 for never.
type lived struct {
	id                pool.SnapshotID
	digest            string
	begun, done, gone powercut.Moment
}

// TestPowerCutAnywhere lets the power go at many moments in the life of a pool
// on a disk that loses what was not flushed. Every snapshot that was committed
// by then is there to the byte, and there is no half of any.
func TestPowerCutAnywhere(t *testing.T) {
	const seed, rounds, cuts = 11, 12, 24
	t.Logf("seed %d", seed)
	l := &life{moves: rand.New(rand.NewPCG(seed, 0))}
	c := pooltest.Config(t)
	c.Image, c.Dir = "", filepath.Join(pooltest.Folder(t), "mount")
	l.disk = powercut.New(t, pooltest.Folder(t), c.Size)
	mount(t, c.Dir, func() error { return l.disk.Mount(t.Context(), c.Dir) })
	l.p = pooltest.Open(t, c)
	m := pooltest.Import(t, l.p, "m1")
	for round := range rounds {
		l.round(t, m, round)
	}
	begin, end := l.past[0].begun, l.now(t)
	for i := range cuts {
		at := begin + powercut.Moment(l.moves.Int64N(int64(end-begin)))
		// The disk's own cache loses all, nothing, or some of it in any order.
		survives := []func() bool{
			func() bool { return false }, func() bool { return true }, func() bool { return l.moves.IntN(2) == 0 },
		}[i%3]
		t.Run(fmt.Sprintf("at %d", at), func(t *testing.T) { l.cut(t, c, at, survives) })
	}
}

func (l *life) now(t *testing.T) powercut.Moment {
	t.Helper()
	at, err := l.disk.Now()
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// round has the machine work, takes a snapshot, and sometimes goes back to one
// or removes one.
func (l *life) round(t *testing.T, m pool.Files, round int) {
	t.Helper()
	for range 20 {
		page := make([]byte, 4096)
		for i := range page {
			page[i] = byte(l.moves.Uint32())
		}
		pooltest.Write(t, m.Memory, l.moves.Int64N(pooltest.MemoryBytes/4096)*4096, page)
		pooltest.Write(t, m.Disk, l.moves.Int64N(pooltest.MemoryBytes/4096)*4096, page)
	}
	s := lived{begun: l.now(t)}
	s.id = pooltest.Snapshot(t, l.p, "m1", fmt.Sprintf("round-%d", round)).ID
	s.done = l.now(t)
	s.digest = l.digest(t, l.p, s.id)
	l.past = append(l.past, s)
	other := &l.past[l.moves.IntN(len(l.past))]
	if other.gone != 0 {
		return
	}
	var err error
	switch l.moves.IntN(3) {
	case 0:
		_, err = l.p.Rollback(t.Context(), "m1", other.id)
	case 1:
		other.gone = l.now(t)
		err = l.p.RemoveSnapshot(t.Context(), other.id)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// digest is that of all that a snapshot holds.
func (l *life) digest(t *testing.T, p *pool.Pool, id pool.SnapshotID) (d string) {
	t.Helper()
	err := p.Read(t.Context(), id, func(dir string) error {
		d = digest(t, dir+"/memory", dir+"/disk", dir+"/state", dir+"/kernel", dir+"/initrd")
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return d
}

// cut checks what is found after the power has gone at a moment.
func (l *life) cut(t *testing.T, c pool.Config, at powercut.Moment, survives func() bool) {
	image := filepath.Join(pooltest.Folder(t), "image")
	c.Dir = filepath.Join(pooltest.Folder(t), "mount")
	if err := l.disk.Cut(at, image, survives); err != nil {
		t.Fatal(err)
	}
	mount(t, c.Dir, func() error { return powercut.Mount(t.Context(), image, c.Dir) })
	p := pooltest.Open(t, c)
	found, err := p.Snapshots()
	if err != nil {
		t.Fatal(err)
	}
	there := map[pool.SnapshotID]bool{}
	for _, s := range found {
		there[s.ID] = s.Damage == ""
		if s.Damage != "" {
			t.Errorf("snapshot %s: %s", s.ID, s.Damage)
		}
	}
	for _, s := range l.past {
		if s.done <= at && (s.gone == 0 || at < s.gone) && !there[s.id] {
			t.Errorf("snapshot %s was committed at %d and is lost", s.id, s.done)
		}
		if there[s.id] {
			if got := l.digest(t, p, s.id); got != s.digest {
				t.Errorf("snapshot %s has another content", s.id)
			}
		}
		delete(there, s.id)
	}
	if len(there) != 0 {
		t.Errorf("snapshots that never were: %v", there)
	}
	wantStaged(t, c, 0)
}

// mount makes the folder dir and has something mounted there until the test
// ends.
func mount(t *testing.T, dir string, do func() error) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := do(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
			unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
}
