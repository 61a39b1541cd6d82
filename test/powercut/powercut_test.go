package powercut_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"bulkhead/test/leak"
	"bulkhead/test/powercut"

	"golang.org/x/sys/unix"
)

// disk makes a disk in a folder.
func disk(t *testing.T, size int64) (dir string, d *powercut.Disk) {
	t.Helper()
	leak.Check(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a disk")
	}
	dir = t.TempDir()
	return dir, powercut.New(t, dir, size)
}

// A disk whose power goes has everything that was flushed, and of the rest what
// survives.
func TestCut(t *testing.T) {
	dir, d := disk(t, 1<<20)
	f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func(at int64) []byte {
		b := make([]byte, 3*4096)
		rand.Read(b)
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		return b
	}
	old := write(0)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	fresh := write(4096)
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4*4096, 4096); err != nil {
		t.Fatal(err)
	}
	at, err := d.Now()
	if err != nil {
		t.Fatal(err)
	}
	write(65536)
	for name, c := range map[string]struct {
		survives bool
		want     []byte
	}{
		"nothing more": {false, old},
		"all of it":    {true, append(append(old[:4096:4096], fresh...), make([]byte, 4096)...)},
	} {
		image := filepath.Join(dir, name)
		if err := d.Cut(at, image, func() bool { return c.survives }); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		if want := append(c.want, make([]byte, 1<<20-len(c.want))...); !bytes.Equal(got, want) {
			t.Errorf("%s is lost or too much", name)
		}
	}
}

// The log tells all that was written, also what was written side by side.
func TestLogIsWhole(t *testing.T) {
	dir, d := disk(t, 512<<20)
	on := filepath.Join(dir, "mount")
	if err := errors.Join(os.Mkdir(on, 0o700), d.Mount(t.Context(), on)); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			b := bytes.Repeat([]byte{byte(i)}, 1<<20)
			if err := os.WriteFile(filepath.Join(on, fmt.Sprint(i)), b, 0o600); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := unix.Unmount(on, 0); err != nil {
		t.Fatal(err)
	}
	at, err := d.Now()
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	if err := d.Cut(at, image, func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cmp", image, d.Path).CombinedOutput(); err != nil {
		t.Errorf("what the log tells is not what the disk has: %s", out)
	}
}
