package pool_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/pool/pooltest"

	"golang.org/x/sys/unix"
)

// occupy takes all but leave bytes of the pool's space, as guests do that fill
// their disks.
func occupy(t *testing.T, c pool.Config, leave int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(c.Dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil {
		t.Fatal(err)
	}
	at := int64(s.Bavail)*s.Bsize - leave
	if err := unix.Fallocate(int(f.Fd()), 0, 0, at); err != nil {
		t.Fatal(err)
	}
	if leave > 0 {
		return
	}
	for size := int64(1 << 20); size >= 4096; { // and what it keeps for itself
		err := unix.Fallocate(int(f.Fd()), 0, at, size)
		at += size
		if errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestFullPoolRefusesBeforeWork(t *testing.T) {
	c := pooltest.Config(t)
	var seen []string
	c.Before = func(op, path string) error { seen = append(seen, op+" "+path); return nil }
	p := pooltest.Open(t, c)
	m := pooltest.Import(t, p, "m1")
	snap := pooltest.Snapshot(t, p, "m1", "monday")
	template := filepath.Join(t.TempDir(), "template")
	if err := p.Export(t.Context(), snap.ID, template); err != nil {
		t.Fatal(err)
	}
	pooltest.Write(t, m.Memory, 0, []byte("now!"))
	u, err := p.Usage()
	if err != nil {
		t.Fatal(err)
	}
	occupy(t, c, u.Reserved-4096)
	seen = nil
	for name, do := range map[string]func() error{
		"new machine":     func() error { _, err := p.NewMachine(t.Context(), "m2", snap.ID); return err },
		"import machine":  func() error { _, err := p.ImportMachine(t.Context(), "m2", pooltest.Source(t)); return err },
		"snapshot":        func() error { _, err := p.Begin(t.Context(), "m1"); return err },
		"import template": func() error { _, err := p.Import(t.Context(), template); return err },
	} {
		t.Run(name, func(t *testing.T) {
			err := do()
			wantKind(t, err, fault.Exhausted, "pool is full: 67 MiB free, 68 MiB kept for machines")
			wantHint(t, err)
			if len(seen) != 0 {
				t.Errorf("work was done before: %v", seen)
			}
		})
	}
	t.Run("but a rollback is the way out", func(t *testing.T) {
		if _, err := p.Rollback(t.Context(), "m1", snap.ID); err != nil {
			t.Error(err)
		}
		wantAt(t, m.Memory, 0, "\x00\x00\x00\x00")
	})
}

// TestPoolThatRunsFull fills the last block after the size check, before each
// step of an operation in turn.
func TestPoolThatRunsFull(t *testing.T) {
	for _, sc := range scenarios {
		if strings.HasPrefix(sc.name, "remove") || sc.name == "discarded draft" {
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			w := newWorld(t, -1)
			if err := sc.do(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			failed := 0
			for n := range w.steps.seen {
				if !runFull(t, sc.do, n) {
					failed++
				}
			}
			if failed == 0 {
				t.Error("succeeded with a full pool, wherever it ran full")
			}
		})
	}
}

// runFull runs a scenario in a pool that is full from step n on, and reports
// whether it succeeded. If not, it checks that nothing but the scenario is lost.
func runFull(t *testing.T, do scenario, n int) bool {
	w := newWorld(t, -1)
	machinesOld, snapshotsOld := w.describe(t)
	count := 0
	w.steps.inject = func() {
		if count == n {
			occupy(t, w.c, 0)
		}
		count++
	}
	err := do(t.Context(), w)
	wantStaged(t, w.c, 0) // cleaned by the operation, not by the next start
	w.reopen(t)           // a full file system can be mounted
	if err != nil {
		wantKind(t, err, fault.Exhausted, "pool is full")
		wantHint(t, err)
		if machines, snapshots := w.describe(t); machines != machinesOld || snapshots != snapshotsOld {
			t.Errorf("full at step %d, pool holds\n%s%s\nwant\n%s%s", n, machines, snapshots, machinesOld, snapshotsOld)
		}
	} else {
		w.describe(t) // verifies all snapshots
	}
	return err == nil
}

// TestSpaceIsPromisedOnce starts more machines at once than there is room for.
func TestSpaceIsPromisedOnce(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	pooltest.Import(t, p, "m1")
	snap := pooltest.Snapshot(t, p, "m1", "monday")
	u, err := p.Usage()
	if err != nil {
		t.Fatal(err)
	}
	const fit = 3
	occupy(t, c, u.Reserved+fit*pooltest.MemoryBytes+1<<20)
	var all sync.WaitGroup
	errs := make([]error, 10)
	for i := range errs {
		all.Go(func() { _, errs[i] = p.NewMachine(t.Context(), pool.MachineID("f"+string(rune('a'+i))), snap.ID) })
	}
	all.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
		} else {
			wantKind(t, err, fault.Exhausted, "pool is full")
		}
	}
	if made != fit {
		t.Errorf("%d machines were made, there is room for %d", made, fit)
	}
}
