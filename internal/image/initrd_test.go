package image_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/image"

	"github.com/cavaliergopher/cpio"
	"github.com/google/go-cmp/cmp"
)

// loadOrder is the order in which the modules can be loaded: each after those
// that modules.dep of the kernel package names for it.
var loadOrder = []string{
	"virtio_ring", "virtio", "virtio_mmio", "virtio_blk", "failover",
	"net_failover", "virtio_net", "virtio_console", "virtio-rng", "virtio_balloon",
}

// moduleTree makes a tree as in a kernel package, with the modules in folders
// that say nothing of their order.
func moduleTree(t *testing.T, names []string) string {
	t.Helper()
	dir := t.TempDir()
	for i, name := range names {
		sub := filepath.Join(dir, "kernel", fmt.Sprint(9-i))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sub, name+".ko"), []byte("module "+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestInitrd(t *testing.T) {
	dir := t.TempDir()
	agent := filepath.Join(dir, "agent")
	if err := os.WriteFile(agent, bytes.Repeat([]byte("agent"), 1001), 0o600); err != nil {
		t.Fatal(err)
	}
	modules, err := image.FindModules(moduleTree(t, loadOrder))
	if err != nil {
		t.Fatal(err)
	}
	path, again := filepath.Join(dir, "initrd"), filepath.Join(dir, "again")
	for _, p := range []string{path, again} {
		if err := image.WriteInitrd(p, agent, modules); err != nil {
			t.Fatal(err)
		}
	}

	var want []string
	for _, d := range []string{"modules", "dev", "proc", "sys", "run", "newroot"} {
		want = append(want, fmt.Sprintf("drwxr-xr-x 0:0 %s: ", d))
	}
	want = append(want, "-rwxr-xr-x 0:0 init: "+strings.Repeat("agent", 1001))
	for i, name := range loadOrder {
		want = append(want, fmt.Sprintf("-rw-r--r-- 0:0 modules/%02d-%s.ko: module %s", i, name, name))
	}
	if diff := cmp.Diff(want, readArchive(t, path)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(again)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the same content makes different archives")
	}
}

// readArchive lists a cpio archive, one line an entry: rights, owner, name and
// content.
func readArchive(t *testing.T, path string) (entries []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := cpio.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, fmt.Sprintf("%s %d:%d %s: %s", h.FileInfo().Mode(), h.Uid, h.Guid, h.Name, b))
	}
}

func TestInitrdWithoutADriver(t *testing.T) {
	_, err := image.FindModules(moduleTree(t, loadOrder[1:]))
	if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "virtio_ring") {
		t.Errorf("error %v, want an unsupported that names virtio_ring", err)
	}
}
