package loop_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/pool/loop"
	"bulkhead/internal/pool/pooltest"
	"bulkhead/internal/pool/reflink"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { pooltest.Main(m) }

// newImage returns a new image and a folder to mount it on, whose name is not
// easy. What the test leaves mounted is unmounted.
func newImage(t *testing.T) (image, dir string) {
	t.Helper()
	base := pooltest.Folder(t)
	image, dir = filepath.Join(base, "img"), filepath.Join(base, "a b\\c")
	if err := loop.Create(t.Context(), image, loop.MinSize); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for unix.Unmount(dir, unix.MNT_DETACH) == nil {
		}
	})
	return image, dir
}

func mustMount(t *testing.T, image, dir string) {
	t.Helper()
	if err := loop.Mount(image, dir); err != nil {
		t.Fatal(err)
	}
}

func wantMounted(t *testing.T, image, dir string, want bool) {
	t.Helper()
	got, err := loop.Mounted(image, dir)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%s mounted on %s: %t, want %t", image, dir, got, want)
	}
}

func TestCreate(t *testing.T) {
	base := pooltest.Folder(t)
	image := filepath.Join(base, "img")
	pooltest.Write(t, image+".new", 0, []byte("left by a crash"))
	if err := loop.Create(t.Context(), image, loop.MinSize); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(image)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Size(), int64(loop.MinSize); got != want {
		t.Errorf("image has %d bytes, want %d", got, want)
	}
	if got, want := info.Mode(), os.FileMode(0o600); got != want {
		t.Errorf("image has mode %v, want %v", got, want)
	}
	for name, tc := range map[string]struct {
		size int64
		path string
		text string
	}{
		"too small": {loop.MinSize - 1, "small", "mkfs.xfs"},
		"nowhere":   {loop.MinSize, "no/where", "no such file"},
	} {
		t.Run(name+" leaves nothing", func(t *testing.T) {
			path := filepath.Join(base, tc.path)
			err := loop.Create(t.Context(), path, tc.size)
			if err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %q in it", err, tc.text)
			}
			for _, p := range []string{path, path + ".new"} {
				if _, err := os.Stat(p); err == nil {
					t.Errorf("%s exists", p)
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := loop.Create(ctx, filepath.Join(base, "late"), loop.MinSize); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestMountHasReflinksAndNoPrograms(t *testing.T) {
	image, dir := newImage(t)
	wantMounted(t, image, dir, false)
	mustMount(t, image, dir)
	wantMounted(t, image, dir, true)
	wantMounted(t, image, filepath.Join(dir, "below"), false)
	wantMounted(t, image, filepath.Dir(dir), false)
	if err := reflink.Probe(dir); err != nil {
		t.Error(err)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	if want := int64(unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC); s.Flags&want != want {
		t.Errorf("mount has flags %#x, want %#x", s.Flags, want)
	}
	if err := loop.Unmount(dir); err != nil {
		t.Fatal(err)
	}
	wantMounted(t, image, dir, false)
	if got := pooltest.Loops(t, image); len(got) != 0 {
		t.Errorf("devices stay: %v", got)
	}
}

func TestImageHasOneDevice(t *testing.T) {
	image, dir := newImage(t)
	second := filepath.Join(filepath.Dir(dir), "second")
	if err := os.Mkdir(second, 0o700); err != nil {
		t.Fatal(err)
	}
	mustMount(t, image, dir)
	mustMount(t, image, second)
	if got := pooltest.Loops(t, image); len(got) != 1 {
		t.Errorf("devices of one image: %v", got)
	}
	pooltest.Write(t, filepath.Join(dir, "file"), 0, []byte("seen"))
	if _, err := os.Stat(filepath.Join(second, "file")); err != nil {
		t.Errorf("the two mounts are two file systems: %v", err)
	}
	if err := errors.Join(loop.Unmount(second), loop.Unmount(dir)); err != nil {
		t.Error(err)
	}
}

func TestUnmountLeavesWhatIsInUse(t *testing.T) {
	image, dir := newImage(t)
	mustMount(t, image, dir)
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := loop.Unmount(dir); !errors.Is(err, loop.ErrBusy) {
		t.Errorf("got %v, want %v", err, loop.ErrBusy)
	}
	wantMounted(t, image, dir, true)
	f.Close()
	if err := loop.Unmount(dir); err != nil {
		t.Error(err)
	}
}

func TestGrow(t *testing.T) {
	image, dir := newImage(t)
	if err := loop.Grow(t.Context(), image, dir, 400<<20); err == nil {
		t.Error("an image that is not mounted has grown")
	}
	mustMount(t, image, dir)
	for range 2 {
		if err := loop.Grow(t.Context(), image, dir, 400<<20); err != nil {
			t.Fatal(err)
		}
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	if got, want := int64(s.Blocks)*s.Bsize, int64(loop.MinSize); got <= want {
		t.Errorf("file system has %d bytes after growing from %d", got, want)
	}
}

// TestRemovalShrinksImage is about the discard option.
func TestRemovalShrinksImage(t *testing.T) {
	image, dir := newImage(t)
	mustMount(t, image, dir)
	size := func() int64 {
		var s unix.Stat_t
		if err := unix.Stat(image, &s); err != nil {
			t.Fatal(err)
		}
		return s.Blocks * 512
	}
	empty := size()
	file := filepath.Join(dir, "file")
	pooltest.Write(t, file, 0, make([]byte, 32<<20))
	syncFS(t, dir)
	if got := size() - empty; got < 31<<20 {
		t.Fatalf("image has grown by only %d bytes with 32 MiB in it", got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := loop.Unmount(dir); err != nil { // waits for what goes on behind
		t.Fatal(err)
	}
	if got := size() - empty; got > 1<<20 {
		t.Errorf("image is %d bytes larger than at first after all was removed", got)
	}
}

func syncFS(t *testing.T, dir string) {
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
