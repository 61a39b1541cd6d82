package pool_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/pool/pooltest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// exported returns a folder with an exported snapshot.
func exported(t *testing.T) (dir string, snap pool.Snapshot) {
	t.Helper()
	p := pooltest.New(t)
	m := pooltest.Import(t, p, "m1")
	pooltest.Write(t, m.Memory, 1<<20, []byte("then"))
	snap, err := pooltest.Take(t.Context(), p, "m1", "device state", meta())
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "template")
	if err := p.Export(t.Context(), snap.ID, dir); err != nil {
		t.Fatal(err)
	}
	return dir, snap
}

func TestExportAndImport(t *testing.T) {
	dir, want := exported(t)
	c := pooltest.Config(t)
	c.Key = bytes.Repeat([]byte("other"), 7)
	p := pooltest.Open(t, c)
	got, err := p.Import(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(pool.Snapshot{}, "ID")); diff != "" {
		t.Errorf("snapshot (-exported +imported):\n%s", diff)
	}
	again, err := p.Import(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.ID == got.ID || got.ID == want.ID {
		t.Errorf("ids are not new: %s, imported as %s and %s", want.ID, got.ID, again.ID)
	}
	if err := p.Verify(t.Context(), got.ID); err != nil {
		t.Error(err)
	}
	m, err := p.NewMachine(t.Context(), "m1", got.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantAt(t, m.Memory, 1<<20, "then")
	wantAt(t, m.State, 0, "device state")
	u, err := p.Own(t.Context(), again.ID)
	if err != nil {
		t.Fatal(err)
	}
	if u > 4<<20 { // 2 MiB of disk and what XFS sets aside; 12 MiB without holes
		t.Errorf("import takes %d bytes: holes were filled", u)
	}
	wantStaged(t, c, 0)
}

func TestExportWithinOneFileSystemCopiesNoData(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	m := pooltest.Import(t, p, "m1")
	pooltest.Write(t, m.Memory, 0, make([]byte, pooltest.MemoryBytes))
	snap := pooltest.Snapshot(t, p, "m1", "monday")
	if err := p.RemoveMachine(t.Context(), "m1"); err != nil {
		t.Fatal(err)
	}
	if err := p.Export(t.Context(), snap.ID, filepath.Join(c.Dir, "template")); err != nil {
		t.Fatal(err)
	}
	own, err := p.Own(t.Context(), snap.ID)
	if err != nil {
		t.Fatal(err)
	}
	if own != 0 {
		t.Errorf("%d bytes are not shared with the export", own)
	}
}

func TestExportRefuses(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	pooltest.Import(t, p, "m1")
	snap := pooltest.Snapshot(t, p, "m1", "monday")
	broken := pooltest.Snapshot(t, p, "m1", "tuesday")
	if err := flip("kernel", 0)(filepath.Join(c.Dir, "snapshots", string(broken.ID))); err != nil {
		t.Fatal(err)
	}
	there := t.TempDir()
	pooltest.Write(t, filepath.Join(there, "file"), 0, []byte("mine"))
	for _, tc := range []struct {
		name string
		id   pool.SnapshotID
		dir  string
		kind fault.Kind
		text string
	}{
		{"to a folder with something in it", snap.ID, there, fault.Exists, "there is something at"},
		{"of a damaged snapshot", broken.ID, filepath.Join(t.TempDir(), "x"), fault.Corrupt, "kernel: digest differs"},
		{"of no snapshot", "s0", filepath.Join(t.TempDir(), "x"), fault.NotFound, "no snapshot s0"},
		{"to nowhere", snap.ID, filepath.Join(t.TempDir(), "x", "y"), fault.Internal, "no such file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantKind(t, p.Export(t.Context(), tc.id, tc.dir), tc.kind, tc.text)
			if _, err := os.Stat(tc.dir + ".new"); err == nil {
				t.Error("half an export is left")
			}
		})
	}
	wantAt(t, filepath.Join(there, "file"), 0, "mine")
}

func TestImportRefusesDamage(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	for _, tc := range damages {
		if strings.HasSuffix(tc.text, "signature differs") {
			continue // it is another pool's
		}
		t.Run(tc.name, func(t *testing.T) {
			dir, _ := exported(t)
			if err := tc.damage(dir); err != nil {
				t.Fatal(err)
			}
			_, err := p.Import(t.Context(), dir)
			wantKind(t, err, fault.Corrupt)
			wantHint(t, err)
			wantStaged(t, c, 0)
		})
	}
}

func TestImportRefusesFoldersOfOthers(t *testing.T) {
	p := pooltest.New(t)
	dir, _ := exported(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	_, err := p.Import(t.Context(), link)
	wantKind(t, err, fault.Denied, "closed to others")
	if err := os.Chmod(dir, 0o710); err != nil {
		t.Fatal(err)
	}
	_, err = p.Import(t.Context(), dir)
	wantKind(t, err, fault.Denied, "closed to others")
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 1, 1); err != nil {
		t.Fatal(err)
	}
	_, err = p.Import(t.Context(), dir)
	wantKind(t, err, fault.Denied, "closed to others")
}
