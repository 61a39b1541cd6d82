package reflink_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/internal/pool/loop"
	"bulkhead/internal/pool/pooltest"
	"bulkhead/internal/pool/reflink"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { pooltest.Main(m) }

// folders returns two folders: on a file system with reflinks, and on one
// without.
func folders(t *testing.T) (with, without string) {
	t.Helper()
	without = pooltest.Folder(t)
	with = filepath.Join(without, "xfs")
	image := filepath.Join(without, "img")
	if err := errors.Join(os.Mkdir(with, 0o700), loop.Create(t.Context(), image, loop.MinSize), loop.Mount(image, with)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := loop.Unmount(with); err != nil {
			t.Error(err)
		}
	})
	return with, without
}

// sparse makes a file of 9 MiB: data, a hole, data, a hole.
func sparse(t *testing.T, path string) []byte {
	t.Helper()
	content := make([]byte, 9<<20)
	for _, at := range []int{0, 4 << 20} {
		copy(content[at:], bytes.Repeat([]byte("data"), 1<<18))
		pooltest.Write(t, path, int64(at), content[at:at+1<<20])
	}
	if err := os.Truncate(path, int64(len(content))); err != nil {
		t.Fatal(err)
	}
	return content
}

func wantContent(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs", path)
	}
}

func wantNone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v, want that it does not exist", path, err)
	}
}

func TestProbe(t *testing.T) {
	with, without := folders(t)
	if err := reflink.Probe(with); err != nil {
		t.Error(err)
	}
	if err := reflink.Probe(without); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want %v", err, errors.ErrUnsupported)
	}
	if err := reflink.Probe(filepath.Join(with, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
	if left, err := os.ReadDir(with); len(left) != 0 || err != nil {
		t.Errorf("probe leaves %v, %v", left, err)
	}
}

func TestClone(t *testing.T) {
	with, without := folders(t)
	src, dst := filepath.Join(with, "src"), filepath.Join(with, "dst")
	content := sparse(t, src)
	if err := reflink.Clone(dst, src); err != nil {
		t.Fatal(err)
	}
	wantContent(t, dst, content)
	pooltest.Write(t, src, 0, []byte("other"))
	wantContent(t, dst, content)
	if err := reflink.Clone(dst, src); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v, want %v", err, os.ErrExist)
	}
	wantContent(t, dst, content)
	if err := reflink.Clone(dst+"2", src+"2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
	wantNone(t, dst+"2")
	far := filepath.Join(without, "dst")
	if err := reflink.Clone(far, src); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want %v", err, errors.ErrUnsupported)
	}
	wantNone(t, far)
}

func TestCopy(t *testing.T) {
	with, without := folders(t)
	src := filepath.Join(with, "src")
	content := sparse(t, src)
	for name, dst := range map[string]string{
		"within one file system reflinks": filepath.Join(with, "dst"),
		"to another keeps holes":          filepath.Join(without, "dst"),
	} {
		t.Run(name, func(t *testing.T) {
			if err := reflink.Copy(t.Context(), dst, src); err != nil {
				t.Fatal(err)
			}
			wantContent(t, dst, content)
			var s unix.Stat_t
			if err := unix.Stat(dst, &s); err != nil {
				t.Fatal(err)
			}
			if got := s.Blocks * 512; got > 6<<20 {
				t.Errorf("copy takes %d bytes, data are 2 MiB", got)
			}
			if got, want := s.Mode&0o777, uint32(0o600); got != want {
				t.Errorf("copy has mode %o, want %o", got, want)
			}
		})
	}
	t.Run("of an empty file", func(t *testing.T) {
		pooltest.Write(t, src+"0", 0, nil)
		dst := filepath.Join(without, "dst0")
		if err := reflink.Copy(t.Context(), dst, src+"0"); err != nil {
			t.Fatal(err)
		}
		wantContent(t, dst, nil)
	})
	t.Run("cancelled leaves nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		dst := filepath.Join(without, "late")
		if err := reflink.Copy(ctx, dst, src); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		wantNone(t, dst)
	})
}

func TestOwn(t *testing.T) {
	with, _ := folders(t)
	src, dst := filepath.Join(with, "src"), filepath.Join(with, "dst")
	own := func(path string) int64 {
		t.Helper()
		n, err := reflink.Own(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// More extents than one batch has: each second page.
	const pages = 2000
	pooltest.Write(t, src, pages*8192-1, []byte{0}) // XFS sets blocks aside behind the end of a file
	writeBack(t, src)
	for i := range pages {
		pooltest.Write(t, src, int64(i)*8192, make([]byte, 4096))
	}
	writeBack(t, src)
	if got, want := own(src), int64((pages+1)*4096); got != want {
		t.Errorf("file alone owns %d bytes, want %d", got, want)
	}
	if err := reflink.Clone(dst, src); err != nil {
		t.Fatal(err)
	}
	if got := own(src) + own(dst); got != 0 {
		t.Errorf("file and its clone own %d bytes, want none", got)
	}
	pooltest.Write(t, src, 0, make([]byte, 10*8192))
	writeBack(t, src)
	if got, want := own(src), int64(20*4096); got != want {
		t.Errorf("file owns %d bytes after a write, want %d", got, want)
	}
	if got, want := own(dst), int64(10*4096); got != want {
		t.Errorf("clone owns %d bytes after a write to the other, want %d", got, want)
	}
	if got, err := reflink.Union(t.Context(), src, dst, src); err != nil || got != int64((pages+1+20)*4096) {
		t.Errorf("both hold %d bytes, %v, want %d", got, err, (pages+1+20)*4096)
	}
}

func writeBack(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}
