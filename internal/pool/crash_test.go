package pool_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bulkhead/internal/pool"
	"bulkhead/internal/pool/pooltest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite golden files")

type scenario func(ctx context.Context, w world) error

// scenarios is each operation that changes a pool. All begin with a machine m1
// that went on from its snapshot "monday", and an exported template.
var scenarios = []struct {
	name string
	do   scenario
}{
	{"import machine", func(ctx context.Context, w world) error {
		_, err := w.p.ImportMachine(ctx, "m2", w.src)
		return err
	}},
	{"new machine", func(ctx context.Context, w world) error {
		_, err := w.p.NewMachine(ctx, "m2", w.monday)
		return err
	}},
	{"snapshot", func(ctx context.Context, w world) error {
		_, err := pooltest.Take(ctx, w.p, "m1", "state", pool.Meta{Name: "tuesday"})
		return err
	}},
	{"discarded draft", func(ctx context.Context, w world) error {
		d, err := w.p.Begin(ctx, "m1")
		if err != nil {
			return err
		}
		return errors.Join(d.Clone(ctx), d.Discard(ctx))
	}},
	{"rollback", func(ctx context.Context, w world) error {
		_, err := w.p.Rollback(ctx, "m1", w.monday)
		return errors.Join(err, w.p.Close(ctx)) // waits for the removal
	}},
	{"remove machine", func(ctx context.Context, w world) error { return w.p.RemoveMachine(ctx, "m1") }},
	{"remove snapshot", func(ctx context.Context, w world) error { return w.p.RemoveSnapshot(ctx, w.monday) }},
	{"import template", func(ctx context.Context, w world) error {
		_, err := w.p.Import(ctx, w.template)
		return err
	}},
}

// world is what a scenario works on.
type world struct {
	c        pool.Config
	p        *pool.Pool
	src      pool.Source
	monday   pool.SnapshotID
	template string
	steps    *steps
}

// steps records the steps of a pool and stops it before one of them, as if the
// process had ended there: every later one fails, too.
type steps struct {
	on   bool
	stop int // number of the step to stop before, from 0; negative: none
	seen []string
	// inject, if not nil, is called before each step.
	inject func()
}

var errStop = errors.New("stopped here")

func (s *steps) before(op, path string) error {
	if !s.on {
		return nil
	}
	if s.stop >= 0 && len(s.seen) >= s.stop {
		return errStop
	}
	s.seen = append(s.seen, op+" "+path)
	if s.inject != nil {
		s.inject()
	}
	return nil
}

func newWorld(t *testing.T, stop int) world {
	t.Helper()
	w := world{c: pooltest.Config(t), src: pooltest.Source(t), steps: &steps{stop: stop}}
	w.c.Before = w.steps.before
	w.p = pooltest.Open(t, w.c)
	m := pooltest.Import(t, w.p, "m1")
	pooltest.Write(t, m.Memory, 0, []byte("then"))
	w.monday = pooltest.Snapshot(t, w.p, "m1", "monday").ID
	pooltest.Write(t, m.Memory, 0, []byte("now!"))
	w.template = filepath.Join(filepath.Dir(w.c.Dir), "template")
	if err := w.p.Export(t.Context(), w.monday, w.template); err != nil {
		t.Fatal(err)
	}
	syncAll(t, w.c.Dir)
	w.steps.on = true
	return w
}

func syncAll(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		t.Fatal(err)
	}
}

// reopen opens the pool anew, as the next process does.
func (w *world) reopen(t *testing.T) {
	t.Helper()
	if err := w.p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.steps.on = false
	w.p = pooltest.Open(t, w.c)
}

// loseCached makes the pool's file system lose everything that is not on its
// device, as a power cut does: XFS_IOC_GOINGDOWN, without writing the log.
func (w *world) loseCached(t *testing.T) {
	t.Helper()
	f, err := os.Open(w.c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const goingDown, noLogFlush = 0x8004587d, 2 // xfs_fs.h
	if err := unix.IoctlSetPointerInt(int(f.Fd()), goingDown, noLogFlush); err != nil {
		t.Fatal(err)
	}
}

// describe tells everything that a pool holds: machines and snapshots with
// the digests of their content.
func (w world) describe(t *testing.T) (machines, snapshots string) {
	t.Helper()
	ids, err := w.p.Machines()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		f, err := w.p.Machine(id)
		if err != nil {
			t.Fatal(err)
		}
		machines += fmt.Sprintf("%s %s\n", id, digest(t, f.Memory, f.Disk, f.Kernel, f.Initrd))
	}
	all, err := w.p.Snapshots()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, s := range all {
		if err := w.p.Verify(t.Context(), s.ID); err != nil {
			t.Error(err)
			continue
		}
		dir := filepath.Join(w.c.Dir, "snapshots", string(s.ID))
		lines = append(lines, fmt.Sprintf("%s %s\n", s.Name, digest(t, dir+"/memory", dir+"/disk")))
	}
	slices.Sort(lines)
	return machines, strings.Join(lines, "")
}

func digest(t *testing.T, paths ...string) string {
	t.Helper()
	h := sha256.New()
	for _, p := range paths {
		h.Write(read(t, p))
	}
	return fmt.Sprintf("%x", h.Sum(nil))[:12]
}

// TestCrash stops each operation before each of its steps, and after the last.
func TestCrash(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			w := newWorld(t, -1)
			machinesOld, snapshotsOld := w.describe(t)
			if err := sc.do(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			w.reopen(t)
			machinesNew, snapshotsNew := w.describe(t)
			for stop := range len(w.steps.seen) + 1 {
				t.Run(fmt.Sprintf("of the process at step %d leaves the old or the new state", stop), func(t *testing.T) {
					w := newWorld(t, stop)
					done := sc.do(t.Context(), w) == nil
					w.reopen(t)
					machines, snapshots := w.describe(t)
					wantOneOf(t, machines, machinesOld, machinesNew, done)
					wantOneOf(t, snapshots, snapshotsOld, snapshotsNew, done)
					wantStaged(t, w.c, 0)
				})
			}
		})
	}
}

// TestPowerCut is about snapshots only: what a machine was is lost then.
func TestPowerCut(t *testing.T) {
	for _, sc := range scenarios {
		if !slices.Contains([]string{"snapshot", "remove snapshot", "import template"}, sc.name) {
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			w := newWorld(t, -1)
			_, snapshotsOld := w.describe(t)
			if err := sc.do(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			_, snapshotsNew := w.describe(t)
			for stop := range len(w.steps.seen) + 1 {
				t.Run(fmt.Sprintf("at step %d leaves the old or the new state", stop), func(t *testing.T) {
					w := newWorld(t, stop)
					done := sc.do(t.Context(), w) == nil
					w.loseCached(t)
					w.reopen(t)
					_, snapshots := w.describe(t)
					// A removal may come back: only what was made must stay.
					wantOneOf(t, snapshots, snapshotsOld, snapshotsNew, done && sc.name != "remove snapshot")
					wantStaged(t, w.c, 0)
				})
			}
		})
	}
}

// TestOpenRepairs is about a file system that has shut itself down, as XFS does
// when its disk fails.
func TestOpenRepairs(t *testing.T) {
	w := newWorld(t, -1)
	_, want := w.describe(t)
	w.loseCached(t)
	if _, err := w.p.Snapshots(); !errors.Is(err, unix.EIO) {
		t.Fatalf("the file system is not shut down: %v", err)
	}
	w.p = pooltest.Open(t, w.c)
	if _, got := w.describe(t); got != want {
		t.Errorf("pool holds\n%s\nwant\n%s", got, want)
	}
}

// wantOneOf fails the test unless got is the old or the new state: the new one
// if the operation said that it was done.
func wantOneOf(t *testing.T, got, old, fresh string, done bool) {
	t.Helper()
	if got == fresh || !done && got == old {
		return
	}
	t.Errorf("done: %t, pool holds\n%s\nold state\n%s\nnew state\n%s", done, got, old, fresh)
}

// TestStepsAreInOrder compares the steps of each operation, with the syncs
// before each rename, with testdata/steps.golden.
func TestStepsAreInOrder(t *testing.T) {
	var all strings.Builder
	for _, sc := range scenarios {
		w := newWorld(t, -1)
		if err := sc.do(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s\n", sc.name)
		for _, step := range withoutNames(w.steps.seen) {
			fmt.Fprintf(&all, "\t%s\n", step)
		}
	}
	const golden = "testdata/steps.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(read(t, golden)), all.String()); diff != "" {
		t.Errorf("steps (-want +got), see -update:\n%s", diff)
	}
}

// withoutNames replaces random names by numbers.
func withoutNames(steps []string) (out []string) {
	name := regexp.MustCompile(`(staging|snapshots)/[a-z0-9]+`)
	numbers := map[string]string{}
	for _, s := range steps {
		out = append(out, name.ReplaceAllStringFunc(s, func(found string) string {
			if numbers[found] == "" {
				parent, _, _ := strings.Cut(found, "/")
				numbers[found] = fmt.Sprintf("%s/#%d", parent, len(numbers)+1)
			}
			return numbers[found]
		}))
	}
	return out
}
