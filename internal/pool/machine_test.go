package pool_test

import (
	"bytes"
	"os"
	"syscall"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/pool/pooltest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// read returns the content of a file.
func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantAt fails the test unless the file has content at an offset.
func wantAt(t *testing.T, path string, at int64, content string) {
	t.Helper()
	if got := string(read(t, path)[at:][:len(content)]); got != content {
		t.Errorf("%s has %q at %d, want %q", path, got, at, content)
	}
}

func TestImportMachine(t *testing.T) {
	p := pooltest.New(t)
	src := pooltest.Source(t)
	got, err := p.ImportMachine(t.Context(), "m1", src)
	if err != nil {
		t.Fatal(err)
	}
	disk := make([]byte, src.DiskBytes)
	copy(disk, read(t, src.Disk))
	for path, want := range map[string][]byte{
		got.Memory: make([]byte, src.MemoryBytes),
		got.Disk:   disk,
		got.Kernel: read(t, src.Kernel),
		got.Initrd: read(t, src.Initrd),
	} {
		if !bytes.Equal(read(t, path), want) {
			t.Errorf("%s differs from its source", path)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := info.Mode(), os.FileMode(0o600); got != want {
			t.Errorf("%s has mode %v, want %v", path, got, want)
		}
		if got := info.Sys().(*syscall.Stat_t).Blocks * 512; got > 4<<20 { // XFS sets some aside
			t.Errorf("%s takes %d bytes: holes were filled", path, got)
		}
	}
	again, err := p.Machine("m1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, again); diff != "" {
		t.Errorf("files differ (-imported +found):\n%s", diff)
	}
	ids, err := p.Machines()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]pool.MachineID{"m1"}, ids); diff != "" {
		t.Errorf("machines (-want +got):\n%s", diff)
	}
}

func TestMakeMachineRefuses(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	pooltest.Import(t, p, "m1")
	snap := pooltest.Snapshot(t, p, "m1", "monday")
	importing := func(id pool.MachineID, edit func(*pool.Source)) func() error {
		return func() error {
			src := pooltest.Source(t)
			edit(&src)
			_, err := p.ImportMachine(t.Context(), id, src)
			return err
		}
	}
	making := func(id pool.MachineID, from pool.SnapshotID) func() error {
		return func() error { _, err := p.NewMachine(t.Context(), id, from); return err }
	}
	same := func(*pool.Source) {}
	for _, tc := range []struct {
		name string
		do   func() error
		kind fault.Kind
		text string
	}{
		{"import of one that exists", importing("m1", same), fault.Exists, "there is a machine m1 already"},
		{"import with a path as id", importing("../m2", same), fault.Invalid, `"../m2" is not the id`},
		{"import with a disk that is too small", importing("m2", func(s *pool.Source) { s.DiskBytes = 1 << 20 }), fault.Invalid, "disk of 1 MiB is too small"},
		{"import without a kernel", importing("m2", func(s *pool.Source) { s.Kernel += "x" }), fault.Internal, "no such file"},
		{"import larger than the pool", importing("m2", func(s *pool.Source) { s.MemoryBytes = 1 << 30 }), fault.Exhausted, "pool is full"},
		{"one that exists", making("m1", snap.ID), fault.Exists, "there is a machine m1 already"},
		{"from a snapshot that does not exist", making("m2", "s0"), fault.NotFound, "no snapshot s0"},
		{"from a path", making("m2", "../machines/m1"), fault.Invalid, "is not the id of a snapshot"},
		{"with an empty id", making("", snap.ID), fault.Invalid, `"" is not the id of a machine`},
		{"with a control character", making("m\n", snap.ID), fault.Invalid, `"m\n" is not the id`},
		{"with 41 letters", making("aaaaaaaaaabbbbbbbbbbccccccccccddddddddddx", snap.ID), fault.Invalid, "is not the id"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantKind(t, tc.do(), tc.kind, tc.text)
			wantStaged(t, c, 0)
		})
	}
	ids, err := p.Machines()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]pool.MachineID{"m1"}, ids); diff != "" {
		t.Errorf("machines (-want +got):\n%s", diff)
	}
}

func TestNewMachineIsIndependent(t *testing.T) {
	p := pooltest.New(t)
	m1 := pooltest.Import(t, p, "m1")
	pooltest.Write(t, m1.Memory, 0, []byte("then"))
	snap := pooltest.Snapshot(t, p, "m1", "monday")
	m2, err := p.NewMachine(t.Context(), "m2", snap.ID)
	if err != nil {
		t.Fatal(err)
	}
	pooltest.Write(t, m1.Memory, 0, []byte("one!"))
	pooltest.Write(t, m2.Memory, 0, []byte("two!"))
	if err := p.RemoveSnapshot(t.Context(), snap.ID); err != nil {
		t.Fatal(err)
	}
	wantAt(t, m1.Memory, 0, "one!")
	wantAt(t, m2.Memory, 0, "two!")
	wantAt(t, m2.Disk, 4<<20, "tailtail")
	wantAt(t, m2.State, 0, "state of monday")
}

func TestRollback(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	m := pooltest.Import(t, p, "m1")
	pooltest.Write(t, m.Memory, 4096, []byte("then"))
	snap := pooltest.Snapshot(t, p, "m1", "monday")
	for range 3 { // from where it is put back to, too
		pooltest.Write(t, m.Memory, 4096, []byte("now!"))
		pooltest.Write(t, m.Disk, 4<<20, []byte("gone"))
		back, err := p.Rollback(t.Context(), "m1", snap.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, back); diff != "" {
			t.Errorf("files moved (-before +after):\n%s", diff)
		}
		wantAt(t, m.Memory, 4096, "then")
		wantAt(t, m.Disk, 4<<20, "tailtail")
		wantAt(t, m.State, 0, "state of monday")
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	pooltest.Open(t, c)
	wantStaged(t, c, 0)
}

func TestRollbackRefuses(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	m := pooltest.Import(t, p, "m1")
	snap := pooltest.Snapshot(t, p, "m1", "monday")
	broken := pooltest.Snapshot(t, p, "m1", "tuesday")
	pooltest.Write(t, c.Dir+"/snapshots/"+string(broken.ID)+"/state", 0, []byte("X"))
	pooltest.Write(t, m.Memory, 0, []byte("now!"))
	for _, tc := range []struct {
		name string
		id   pool.MachineID
		to   pool.SnapshotID
		kind fault.Kind
		text string
	}{
		{"a machine that does not exist", "m2", snap.ID, fault.NotFound, "no machine m2"},
		{"a snapshot that does not exist", "m1", "s0", fault.NotFound, "no snapshot s0"},
		{"a damaged snapshot", "m1", broken.ID, fault.Corrupt, "device state: digest differs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := p.Rollback(t.Context(), tc.id, tc.to)
			wantKind(t, err, tc.kind, tc.text)
		})
	}
	t.Run("a machine whose disk is locked", func(t *testing.T) {
		f, err := os.OpenFile(m.Disk, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		// As QEMU does it: shared locks on single bytes far behind.
		lock := unix.Flock_t{Type: unix.F_RDLCK, Start: 201, Len: 1}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
			t.Fatal(err)
		}
		_, err = p.Rollback(t.Context(), "m1", snap.ID)
		wantKind(t, err, fault.WrongState, "disk is in use")
		wantKind(t, p.RemoveMachine(t.Context(), "m1"), fault.WrongState, "disk is in use")
	})
	wantAt(t, m.Memory, 0, "now!")
	wantStaged(t, c, 0)
}

func TestRemoveMachine(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	pooltest.Import(t, p, "m1")
	for range 2 {
		if err := p.RemoveMachine(t.Context(), "m1"); err != nil {
			t.Fatal(err)
		}
		_, err := p.Machine("m1")
		wantKind(t, err, fault.NotFound, "no machine m1")
		wantStaged(t, c, 0)
	}
	wantKind(t, p.RemoveMachine(t.Context(), ".."), fault.Invalid)
}

func TestFlushLeavesNothingDirty(t *testing.T) {
	p := pooltest.New(t)
	m := pooltest.Import(t, p, "m1")
	pooltest.Write(t, m.Memory, 0, bytes.Repeat([]byte("dirty"), 1<<18))
	if got, err := dirtyPages(m.Memory); err != nil {
		t.Skip("kernel has no cachestat(2), so that dirty pages cannot be counted:", err)
	} else if got == 0 {
		t.Fatal("nothing is dirty after a write")
	}
	if err := p.Flush(t.Context(), "m1"); err != nil {
		t.Fatal(err)
	}
	if got, err := dirtyPages(m.Memory); got != 0 || err != nil {
		t.Errorf("%d pages are dirty after a flush: %v", got, err)
	}
	wantKind(t, p.Flush(t.Context(), "m2"), fault.NotFound, "no machine m2")
}

func dirtyPages(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var all unix.CachestatRange
	var stat unix.Cachestat_t
	err = unix.Cachestat(uint(f.Fd()), &all, &stat, 0)
	return stat.Dirty, err
}
