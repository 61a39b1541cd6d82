package vmmtest

import (
	"context"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"bulkhead/internal/vmm"
)

// moment is a machine's files at one moment.
type moment struct {
	Spec  vmm.Spec
	State string
}

// save takes a snapshot and has the machine go on.
func (m *machine) save(t *testing.T) moment {
	t.Helper()
	dir := m.l.folder(t)
	at := moment{in(dir, m.spec), filepath.Join(dir, "state")}
	f, err := os.Create(at.State)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	do(t, m.Stop, func(ctx context.Context) error { return m.SaveState(ctx, f) })
	copySparse(t, m.spec.Memory, at.Spec.Memory)
	copySparse(t, m.spec.Disk, at.Spec.Disk)
	do(t, m.Continue)
	return at
}

// copy returns the moment with files and a run directory of its own. The state
// is the same file: drivers only read it.
func (at moment) copy(t *testing.T, l *lab) moment {
	t.Helper()
	from := at.Spec
	at.Spec = in(l.folder(t), from)
	copySparse(t, from.Memory, at.Spec.Memory)
	copySparse(t, from.Disk, at.Spec.Disk)
	return at
}

// digest tells two contents of a file apart.
func digest(t *testing.T, path string) uint32 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := crc32.NewIEEE()
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	return sum.Sum32()
}

func sparse(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

func copySparse(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %s", from, out)
	}
}
