package watch_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"bulkhead/internal/guestd/watch"
	pb "bulkhead/proto/filesystem"
)

const (
	created = pb.EventType_EVENT_TYPE_CREATE
	written = pb.EventType_EVENT_TYPE_WRITE
	removed = pb.EventType_EVENT_TYPE_REMOVE
	renamed = pb.EventType_EVENT_TYPE_RENAME
	chmod   = pb.EventType_EVENT_TYPE_CHMOD
)

type event struct {
	name string
	what pb.EventType
}

// must makes the steps of a test short; the first failure ends it.
type must struct{ t *testing.T }

func (m must) ok(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m must) mkdir(path string)    { m.t.Helper(); m.ok(os.Mkdir(path, 0o755)) }
func (m must) write(path string)    { m.t.Helper(); m.ok(os.WriteFile(path, []byte("x"), 0o644)) }
func (m must) move(from, to string) { m.t.Helper(); m.ok(os.Rename(from, to)) }

// watched runs a watch and lets the test wait for what it tells.
type watched struct {
	t      *testing.T
	events chan event
	seen   []event
	done   chan error
}

func open(t *testing.T, dir string, recursive bool) *watched {
	t.Helper()
	w, err := watch.Open(dir, recursive)
	if err != nil {
		t.Fatal(err)
	}
	r := &watched{t: t, events: make(chan event), done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		r.done <- w.Run(ctx, func(name string, what pb.EventType) error {
			select {
			case r.events <- event{name, what}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-r.done; !errors.Is(err, context.Canceled) {
			t.Errorf("run ended with %v", err)
		}
	})
	return r
}

// until waits for an event; those before it are in seen.
func (w *watched) until(name string, what pb.EventType) {
	w.t.Helper()
	for {
		select {
		case ev := <-w.events:
			w.seen = append(w.seen, ev)
			if ev == (event{name, what}) {
				return
			}
		case err := <-w.done:
			w.done <- err
			w.t.Fatalf("ended with %v after %v, waiting for %s %v", err, w.seen, name, what)
		}
	}
}

func TestOneDirectory(t *testing.T) {
	m, dir := must{t}, t.TempDir()
	m.mkdir(filepath.Join(dir, "sub"))
	m.write(filepath.Join(dir, "old"))
	w := open(t, dir, false)
	m.write(filepath.Join(dir, "new"))
	w.until("new", written)
	m.ok(os.Chmod(filepath.Join(dir, "new"), 0o600))
	w.until("new", chmod)
	m.move(filepath.Join(dir, "new"), filepath.Join(dir, "newer"))
	w.until("newer", created)
	m.write(filepath.Join(dir, "sub", "hidden")) // not told: not recursive
	m.ok(os.Remove(filepath.Join(dir, "old")))
	w.until("old", removed)
	want := []event{{"new", created}, {"new", written}, {"new", chmod}, {"new", renamed}, {"newer", created}, {"old", removed}}
	if got := slices.Compact(w.seen); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	m.ok(os.RemoveAll(dir))
	w.until(".", removed)
}

func TestTree(t *testing.T) {
	m, dir := must{t}, t.TempDir()
	join := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	m.mkdir(join("a"))
	m.mkdir(join("a", "b"))
	w := open(t, dir, true)
	t.Run("tells of directories that were there", func(t *testing.T) {
		m.write(join("a", "b", "file"))
		w.until("a/b/file", written)
	})
	t.Run("tells of directories that are made", func(t *testing.T) {
		m.mkdir(join("new"))
		w.until("new", created)
		m.write(join("new", "file")) // after the news: nothing may be missed
		w.until("new/file", written)
	})
	t.Run("tells of all levels made at once", func(t *testing.T) {
		m.ok(os.MkdirAll(join("x", "y", "z"), 0o755))
		m.write(join("x", "y", "z", "file"))
		w.until("x/y/z", created)
		w.until("x/y/z/file", created)
	})
	t.Run("follows a directory to its new name", func(t *testing.T) {
		m.move(join("a"), join("c"))
		w.until("a", renamed)
		w.until("c", created)
		m.write(join("c", "b", "late"))
		w.until("c/b/late", written)
	})
	t.Run("forgets a directory that leaves", func(t *testing.T) {
		away := t.TempDir()
		m.move(join("c"), filepath.Join(away, "c"))
		w.until("c", renamed)
		w.seen = nil
		m.write(filepath.Join(away, "c", "b", "unseen"))
		m.write(join("end"))
		w.until("end", written)
		if i := slices.IndexFunc(w.seen, func(ev event) bool { return filepath.Base(ev.name) == "unseen" }); i >= 0 {
			t.Errorf("was told %v", w.seen[i])
		}
	})
	t.Run("tells the removal of a directory once", func(t *testing.T) {
		w.seen = nil
		m.ok(os.RemoveAll(join("x")))
		w.until("x", removed)
		m.write(join("end"))
		w.until("end", written)
		n := 0
		for _, ev := range w.seen {
			if ev == (event{"x", removed}) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("was told %d times: %v", n, w.seen)
		}
	})
}

func TestSymlinks(t *testing.T) {
	m, dir, other := must{t}, t.TempDir(), t.TempDir()
	m.ok(os.Symlink(dir, filepath.Join(other, "link")))
	m.ok(os.Symlink(other, filepath.Join(dir, "out")))
	w := open(t, filepath.Join(other, "link"), true) // the link itself is followed
	m.write(filepath.Join(other, "unseen"))          // links inside are not
	m.write(filepath.Join(dir, "seen"))
	w.until("seen", written)
	if i := slices.IndexFunc(w.seen, func(ev event) bool { return ev.name != "seen" }); i >= 0 {
		t.Errorf("was told %v", w.seen[i])
	}
}

func TestOpenErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must{t}.write(file)
	if _, err := watch.Open(file+"/x", false); err == nil {
		t.Error("a path under a file can be watched")
	}
	if _, err := watch.Open(file, true); err == nil {
		t.Error("a file can be watched")
	}
	if _, err := watch.Open(file+"x", true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
}

func TestConsumer(t *testing.T) {
	m, dir := must{t}, t.TempDir()
	t.Run("ends the watch by an error", func(t *testing.T) {
		w, err := watch.Open(dir, false)
		m.ok(err)
		m.write(filepath.Join(dir, "a"))
		enough := errors.New("enough")
		if err := w.Run(t.Context(), func(string, pb.EventType) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("got %v, want %v", err, enough)
		}
	})
	t.Run("hears that it was too slow", func(t *testing.T) {
		w, err := watch.Open(dir, false)
		m.ok(err)
		// More than fs.inotify.max_queued_events (16384 by default) before
		// anybody reads. Equal events in a row count once, so take turns.
		for i := range 20_000 {
			m.ok(os.Chmod(filepath.Join(dir, "a"), os.FileMode(0o600+i%2)))
			m.ok(os.Chmod(dir, os.FileMode(0o700+i%2)))
		}
		err = w.Run(t.Context(), func(string, pb.EventType) error { return nil })
		if !errors.Is(err, watch.ErrLost) {
			t.Errorf("got %v, want %v", err, watch.ErrLost)
		}
	})
}
