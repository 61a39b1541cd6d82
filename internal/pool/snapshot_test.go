package pool_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/pool/pooltest"

	"github.com/google/go-cmp/cmp"
)

// meta is a Meta with every field set.
func meta() pool.Meta {
	return pool.Meta{
		Sandbox: "i4f", Name: "monday", Parent: "s123", Cause: "manual",
		Created: time.Date(2026, 7, 6, 5, 4, 3, 2, time.UTC), Stopped: 25 * time.Millisecond,
		Version: map[string]string{"vmm": "7.2", "cpu": "max"}, CPUs: 2, MemoryMiB: 16,
		Labels: map[string]string{"k": "v <&>"},
	}
}

func TestSnapshotIsOneMoment(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	m := pooltest.Import(t, p, "m1")
	pooltest.Write(t, m.Memory, 0, []byte("then"))
	taken, err := pooltest.Take(t.Context(), p, "m1", "device state", meta())
	if err != nil {
		t.Fatal(err)
	}
	pooltest.Write(t, m.Memory, 0, []byte("now!"))

	want := pool.Snapshot{ID: taken.ID, Meta: meta(), MemoryBytes: pooltest.MemoryBytes, DiskBytes: 8 << 20}
	if diff := cmp.Diff(want, taken); diff != "" {
		t.Errorf("snapshot (-want +committed):\n%s", diff)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	p = pooltest.Open(t, c)
	got, err := p.Snapshot(taken.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("snapshot after opening again (-want +got):\n%s", diff)
	}
	if err := p.Verify(t.Context(), taken.ID); err != nil {
		t.Error(err)
	}
	wantAt(t, filepath.Join(c.Dir, "snapshots", string(taken.ID), "memory"), 0, "then")
	wantStaged(t, c, 0)
}

func TestSnapshotsAreListedByTime(t *testing.T) {
	p := pooltest.New(t)
	pooltest.Import(t, p, "m1")
	var want []string
	for day := range 5 {
		name := fmt.Sprint("day", day)
		created := time.Unix(int64(day)*86400, 0).UTC()
		if _, err := pooltest.Take(t.Context(), p, "m1", "", pool.Meta{Name: name, Created: created}); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	all, err := p.Snapshots()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range all {
		got = append(got, s.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("snapshots (-want +got):\n%s", diff)
	}
}

func TestDraft(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	pooltest.Import(t, p, "m1")
	begin := func(t *testing.T) *pool.Draft {
		d, err := p.Begin(t.Context(), "m1")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	discard := func(t *testing.T, d *pool.Draft) {
		for range 2 {
			if err := d.Discard(t.Context()); err != nil {
				t.Error(err)
			}
		}
		wantStaged(t, c, 0)
	}
	t.Run("discarded leaves nothing", func(t *testing.T) {
		d := begin(t)
		if err := d.Clone(t.Context()); err != nil {
			t.Fatal(err)
		}
		discard(t, d)
	})
	t.Run("committed keeps its id and is not discarded", func(t *testing.T) {
		d := begin(t)
		if err := d.Clone(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := d.Commit(t.Context(), pool.Meta{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := s.ID, d.ID(); got != want {
			t.Errorf("snapshot is %s, draft was %s", got, want)
		}
		discard(t, d)
		if err := p.Verify(t.Context(), s.ID); err != nil {
			t.Error(err)
		}
	})
	t.Run("without memory is not committed", func(t *testing.T) {
		d := begin(t)
		if _, err := d.Commit(t.Context(), pool.Meta{}); err == nil {
			t.Error("committed")
		}
		discard(t, d)
	})
	t.Run("with a manifest beyond all bounds is not committed", func(t *testing.T) {
		d := begin(t)
		if err := d.Clone(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := d.Commit(t.Context(), pool.Meta{Name: strings.Repeat("n", 1<<20)})
		wantKind(t, err, fault.Invalid, "names and labels")
		discard(t, d)
	})
	t.Run("of a machine that does not exist", func(t *testing.T) {
		_, err := p.Begin(t.Context(), "m2")
		wantKind(t, err, fault.NotFound, "no machine m2")
	})
}

func TestOwn(t *testing.T) {
	p := pooltest.New(t)
	m := pooltest.Import(t, p, "m1")
	pooltest.Write(t, m.Memory, 0, make([]byte, pooltest.MemoryBytes))
	snap := pooltest.Snapshot(t, p, "m1", "monday")
	own := func() int64 {
		t.Helper()
		n, err := p.Own(t.Context(), snap.ID)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const slack = 64 << 10 // state and manifest
	if got := own(); got > slack {
		t.Errorf("snapshot holds %d bytes that its machine has, too", got)
	}
	pooltest.Write(t, m.Memory, 1<<20, make([]byte, 1<<20))
	if err := p.Flush(t.Context(), "m1"); err != nil {
		t.Fatal(err)
	}
	if got, want := own(), int64(1<<20); got < want || got > want+slack {
		t.Errorf("snapshot holds %d bytes after the machine wrote %d", got, want)
	}
	if err := p.RemoveMachine(t.Context(), "m1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return own() >= 6<<20 }) // 4 MiB of memory, 2 of disk
	_, err := p.Own(t.Context(), "s0")
	wantKind(t, err, fault.NotFound)
}

func TestRemovalGivesSpaceBack(t *testing.T) {
	p := pooltest.New(t)
	free := func() int64 {
		t.Helper()
		u, err := p.Usage()
		if err != nil {
			t.Fatal(err)
		}
		return u.Free
	}
	empty := free()
	m := pooltest.Import(t, p, "m1")
	pooltest.Write(t, m.Memory, 0, make([]byte, pooltest.MemoryBytes))
	snap := pooltest.Snapshot(t, p, "m1", "monday")
	if got, want := empty-free(), int64(6<<20); got < want {
		t.Fatalf("machine takes %d bytes, want %d", got, want)
	}
	if err := p.RemoveMachine(t.Context(), "m1"); err != nil {
		t.Fatal(err)
	}
	if err := p.RemoveSnapshot(t.Context(), snap.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return empty-free() < 1<<20 })
}

// eventually waits for what the file system does in the background: XFS frees
// the blocks of a removed file within moments, not at once.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !done() {
		if ctx.Err() != nil {
			t.Fatal("it does not come true")
		}
	}
}

func TestRemoveSnapshot(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	pooltest.Import(t, p, "m1")
	snap := pooltest.Snapshot(t, p, "m1", "monday")
	for range 2 {
		if err := p.RemoveSnapshot(t.Context(), snap.ID); err != nil {
			t.Fatal(err)
		}
		_, err := p.Snapshot(snap.ID)
		wantKind(t, err, fault.NotFound, "no snapshot "+string(snap.ID))
		wantStaged(t, c, 0)
	}
	wantKind(t, p.RemoveSnapshot(t.Context(), "../machines/m1"), fault.Invalid)
}

// damages is each way to damage a snapshot in dir, and what is said then.
var damages = []struct {
	name   string
	damage func(dir string) error
	text   string
}{
	{"a byte of device state", flip("state", 3), "device state: digest differs"},
	{"a byte of the kernel", flip("kernel", 3), "kernel: digest differs"},
	{"a byte of the initrd", flip("initrd", 3), "initrd: digest differs"},
	{"truncated memory", truncate("memory", 4096), "memory: size differs"},
	{"truncated disk", truncate("disk", 0), "disk: size differs"},
	{"longer device state", truncate("state", 1000), "device state: size differs"},
	{"no memory", remove("memory"), "memory: missing"},
	{"no device state", remove("state"), "device state: missing"},
	{"no manifest", remove("manifest"), "manifest: missing"},
	{"an empty manifest", truncate("manifest", 0), "manifest: not complete"},
	{"half a manifest", truncate("manifest", 200), "manifest: signature differs"},
	{"a byte of the manifest", flip("manifest", 150), "manifest: signature differs"},
	{"a manifest beyond all bounds", truncate("manifest", 2<<20), "manifest: too large"},
}

func flip(file string, at int64) func(string) error {
	return func(dir string) error {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		b[at] ^= 1
		return os.WriteFile(filepath.Join(dir, file), b, 0o600)
	}
}

func truncate(file string, size int64) func(string) error {
	return func(dir string) error { return os.Truncate(filepath.Join(dir, file), size) }
}

func remove(file string) func(string) error {
	return func(dir string) error { return os.Remove(filepath.Join(dir, file)) }
}

func TestDamage(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	pooltest.Import(t, p, "m1")
	for _, tc := range damages {
		t.Run(tc.name, func(t *testing.T) {
			snap := pooltest.Snapshot(t, p, "m1", "monday")
			if err := p.Verify(t.Context(), snap.ID); err != nil { // and remembers digests
				t.Fatal(err)
			}
			if err := tc.damage(filepath.Join(c.Dir, "snapshots", string(snap.ID))); err != nil {
				t.Fatal(err)
			}
			err := p.Verify(t.Context(), snap.ID)
			wantKind(t, err, fault.Corrupt, fmt.Sprintf("snapshot %s: %s", snap.ID, tc.text))
			wantHint(t, err)
			_, err = p.NewMachine(t.Context(), "m2", snap.ID)
			wantKind(t, err, fault.Corrupt, tc.text)
			if err := p.RemoveSnapshot(t.Context(), snap.ID); err != nil {
				t.Error(err)
			}
		})
	}
	wantStaged(t, c, 0)
}

// A manifest that was read before is read again once it has changed, and is
// that of no other snapshot.
func TestDamageShowsInTheNextList(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	pool.SetClock(p, func() time.Time { return time.Now().Add(time.Second) }) // so that all manifests are old enough
	pooltest.Import(t, p, "m1")
	good := pooltest.Snapshot(t, p, "m1", "good")
	bad := pooltest.Snapshot(t, p, "m1", "bad")
	moved := pooltest.Snapshot(t, p, "m1", "moved")
	wantDamage(t, p, map[pool.SnapshotID]string{good.ID: "", bad.ID: "", moved.ID: ""})
	dir := func(id pool.SnapshotID) string { return filepath.Join(c.Dir, "snapshots", string(id)) }
	if err := truncate("manifest", 10)(dir(bad.ID)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir(moved.ID), dir("s1")); err != nil {
		t.Fatal(err)
	}
	wantDamage(t, p, map[pool.SnapshotID]string{
		good.ID: "",
		bad.ID:  fmt.Sprintf("snapshot %s: manifest: not complete", bad.ID),
		"s1":    fmt.Sprintf("snapshot s1: manifest: it is that of snapshot %s", moved.ID),
	})
}

// What a caller does to a snapshot is nobody else's to see.
func TestSnapshotsAreNotShared(t *testing.T) {
	p := pooltest.New(t)
	pool.SetClock(p, func() time.Time { return time.Now().Add(time.Second) })
	pooltest.Import(t, p, "m1")
	taken, err := pooltest.Take(t.Context(), p, "m1", "device state", meta())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := p.Snapshot(taken.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(meta(), got.Meta); diff != "" {
			t.Errorf("snapshot (-want +got):\n%s", diff)
		}
		got.Labels["k"], got.Version["vmm"] = "mine", "mine"
	}
}

func wantDamage(t *testing.T, p *pool.Pool, want map[pool.SnapshotID]string) {
	t.Helper()
	all, err := p.Snapshots()
	if err != nil {
		t.Fatal(err)
	}
	got := map[pool.SnapshotID]string{}
	for _, s := range all {
		got[s.ID] = s.Damage
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("damages (-want +got):\n%s", diff)
	}
}

func TestDamagedManifestIsListedAndDoesNotStopOpen(t *testing.T) {
	c := pooltest.Config(t)
	var log strings.Builder
	c.Log = logTo(&log)
	p := pooltest.Open(t, c)
	pooltest.Import(t, p, "m1")
	good := pooltest.Snapshot(t, p, "m1", "good")
	bad := pooltest.Snapshot(t, p, "m1", "bad")
	moved := pooltest.Snapshot(t, p, "m1", "moved")
	dir := func(id pool.SnapshotID) string { return filepath.Join(c.Dir, "snapshots", string(id)) }
	if err := truncate("manifest", 10)(dir(bad.ID)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir(moved.ID), dir("s1")); err != nil {
		t.Fatal(err)
	}
	p = pooltest.Open(t, c)
	wantDamage(t, p, map[pool.SnapshotID]string{
		good.ID: "",
		bad.ID:  fmt.Sprintf("snapshot %s: manifest: not complete", bad.ID),
		"s1":    fmt.Sprintf("snapshot s1: manifest: it is that of snapshot %s", moved.ID),
	})
	for _, id := range []pool.SnapshotID{bad.ID, "s1"} {
		if !strings.Contains(log.String(), "snapshot="+string(id)) {
			t.Errorf("log does not name %s:\n%s", id, log.String())
		}
	}
	if _, err := p.NewMachine(t.Context(), "m2", good.ID); err != nil {
		t.Error(err)
	}
}

func TestNoByteOfAManifestMayChange(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	pooltest.Import(t, p, "m1")
	snap, err := pooltest.Take(t.Context(), p, "m1", "", meta())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.Dir, "snapshots", string(snap.ID), "manifest")
	whole := read(t, path)
	for i := range whole {
		for _, bit := range []byte{0x01, 0x20} { // 0x20: upper or lower case
			whole[i] ^= bit
			pooltest.Write(t, path, 0, whole)
			if _, err := p.Snapshot(snap.ID); !fault.Is(err, fault.Corrupt) {
				t.Errorf("bit %#x of byte %d (%q) is changed: got %v", bit, i, whole[i], err)
			}
			whole[i] ^= bit
		}
	}
	pooltest.Write(t, path, 0, whole)
	if _, err := p.Snapshot(snap.ID); err != nil {
		t.Error(err)
	}
}

func TestAnotherHostsSnapshotIsRefused(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	pooltest.Import(t, p, "m1")
	snap := pooltest.Snapshot(t, p, "m1", "monday")
	c.Key = []byte(strings.Repeat("another", 5))
	wantKind(t, pooltest.Open(t, c).Verify(t.Context(), snap.ID), fault.Corrupt, "manifest: signature differs")
}
