package unchanged_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkhead/internal/pool/unchanged"

	"golang.org/x/sys/unix"
)

type cache = unchanged.Cache[string]

func read(f *os.File) (string, error) {
	b, err := io.ReadAll(f)
	return string(b), err
}

func want(t *testing.T, c *cache, path string, content []byte) {
	t.Helper()
	got, err := c.Of(path, read)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(content) {
		t.Errorf("got %q, want %q", got, content)
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOf changes a file at once after each look at it.
func TestOf(t *testing.T) {
	var c cache
	path := filepath.Join(t.TempDir(), "file")
	for i := range 200 {
		content := fmt.Appendf(nil, "content %03d", i)
		write(t, path, content)
		want(t, &c, path, content)
		want(t, &c, path, content)
	}
	if _, err := c.Of(path+"x", read); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

func TestChangeOfAnOldFileShows(t *testing.T) {
	c := cache{Now: later}
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, []byte("content"))
	want(t, &c, path, []byte("content"))
	old, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, []byte("CONTENT"))
	if err := os.Chtimes(path, old.ModTime(), old.ModTime()); err != nil { // ctime cannot be set
		t.Fatal(err)
	}
	want(t, &c, path, []byte("CONTENT"))
}

func TestErrorIsNotRemembered(t *testing.T) {
	c := cache{Now: later}
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, []byte("content"))
	bad := errors.New("bad")
	if _, err := c.Of(path, func(*os.File) (string, error) { return "", bad }); !errors.Is(err, bad) {
		t.Errorf("got %v, want %v", err, bad)
	}
	want(t, &c, path, []byte("content"))
}

// TestUnchangedFileIsReadOnce changes a file so that its file system does not
// notice: by a later write to a page that is mapped and dirty already.
func TestUnchangedFileIsReadOnce(t *testing.T) {
	c := cache{Now: later}
	path := filepath.Join(t.TempDir(), "file")
	content := bytes.Repeat([]byte("c"), 4096)
	write(t, path, content)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	page[0] = 'c' // this write does change the file's times
	want(t, &c, path, content)
	page[0] = 'X'
	want(t, &c, path, content)
}

// later tells the time a second from now, when all files here are old.
func later() time.Time { return time.Now().Add(time.Second) }
