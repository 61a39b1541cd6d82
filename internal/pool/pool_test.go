package pool_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/pool/loop"
	"bulkhead/internal/pool/pooltest"
)

func TestMain(m *testing.M) { pooltest.Main(m) }

// logTo returns a logger that writes text.
func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// wantKind fails the test unless err has the kind and its text has each part.
func wantKind(t *testing.T, err error, kind fault.Kind, texts ...string) {
	t.Helper()
	if got := fault.KindOf(err); got != kind {
		t.Fatalf("kind is %q, want %q: %v", got, kind, err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error is %q, want %q in it", err, text)
		}
	}
}

// wantHint fails the test unless err shows a way out.
func wantHint(t *testing.T, err error) {
	t.Helper()
	if fault.HintOf(err) == "" {
		t.Errorf("no hint with %q", err)
	}
}

func TestOpen(t *testing.T) {
	t.Run("makes and mounts an image where there are no reflinks", func(t *testing.T) {
		c := pooltest.Config(t)
		p := pooltest.Open(t, c)
		u, err := p.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if u.Total < c.Size/2 || u.Total > c.Size || u.Free > u.Total || u.Reserved <= 0 {
			t.Errorf("usage %+v does not fit an empty pool of %d bytes", u, c.Size)
		}
		info, err := os.Stat(c.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := info.Mode().Perm(), os.FileMode(0o700); got != want {
			t.Errorf("pool has mode %o, want %o", got, want)
		}
	})
	t.Run("finds again what an earlier process left", func(t *testing.T) {
		c := pooltest.Config(t)
		pooltest.Import(t, pooltest.Open(t, c), "m1")
		for _, how := range []string{"mounted", "not mounted"} {
			p := pooltest.Open(t, c)
			if _, err := p.Machine("m1"); err != nil {
				t.Errorf("pool was %s: %v", how, err)
			}
			if got := len(pooltest.Loops(t, c.Image)); got != 1 {
				t.Errorf("pool was %s: %d loop devices, want 1", how, got)
			}
			if err := p.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("removes what is in staging", func(t *testing.T) {
		c := pooltest.Config(t)
		p := pooltest.Open(t, c)
		pooltest.Import(t, p, "m1")
		d, err := p.Begin(t.Context(), "m1")
		if err != nil {
			t.Fatal(err)
		}
		defer d.State().Close() // as the end of a process does
		wantStaged(t, c, 1)
		pooltest.Open(t, c)
		wantStaged(t, c, 0)
	})
	t.Run("uses a folder that has reflinks as it is", func(t *testing.T) {
		outer := pooltest.Config(t)
		pooltest.Open(t, outer)
		c := outer
		c.Dir, c.Image = filepath.Join(outer.Dir, "inner"), filepath.Join(outer.Dir, "inner.img")
		p := pooltest.Open(t, c)
		pooltest.Import(t, p, "m1")
		if _, err := os.Stat(c.Image); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("there is an image: %v", err)
		}
		wantKind(t, p.Grow(t.Context(), 1<<30), fault.Unsupported)
	})
}

func TestOpenRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*testing.T, *pool.Config)
		kind fault.Kind
		text string
	}{
		{"no reflinks and no image", func(t *testing.T, c *pool.Config) { c.Image = "" }, fault.Unsupported, "no reflinks"},
		{"an image below the minimum", func(t *testing.T, c *pool.Config) { c.Size = loop.MinSize - 1 }, fault.Invalid, "below 300 MiB"},
		{"a host without xfsprogs", func(t *testing.T, _ *pool.Config) { t.Setenv("PATH", "") }, fault.Unavailable, "mkfs.xfs"},
		{"a short key", func(t *testing.T, c *pool.Config) { c.Key = c.Key[:31] }, fault.Internal, "host key"},
		{"an image that is none", func(t *testing.T, c *pool.Config) {
			pooltest.Write(t, c.Image, 0, make([]byte, 1<<20))
		}, fault.Internal, "mount"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := pooltest.Config(t)
			tc.edit(t, &c)
			_, err := pool.Open(t.Context(), c)
			wantKind(t, err, tc.kind, tc.text)
		})
	}
}

func TestClose(t *testing.T) {
	t.Run("leaves the pool mounted while files are in use", func(t *testing.T) {
		c := pooltest.Config(t)
		p := pooltest.Open(t, c)
		f, err := os.Open(pooltest.Import(t, p, "m1").Memory)
		if err != nil {
			t.Fatal(err)
		}
		err = p.Close(t.Context())
		wantKind(t, err, fault.WrongState, "in use")
		wantHint(t, err)
		if _, err := p.Machine("m1"); err != nil {
			t.Errorf("pool is not mounted any more: %v", err)
		}
		f.Close()
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("release is idempotent and needs no pool", func(t *testing.T) {
		c := pooltest.Config(t)
		for range 2 {
			if err := pool.Release(t.Context(), c); err != nil {
				t.Error(err)
			}
		}
		if _, err := pool.Open(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := pool.Release(t.Context(), c); err != nil {
				t.Error(err)
			}
			if got := pooltest.Loops(t, c.Image); len(got) != 0 {
				t.Errorf("loop devices stay: %v", got)
			}
		}
	})
}

func TestGrow(t *testing.T) {
	c := pooltest.Config(t)
	p := pooltest.Open(t, c)
	pooltest.Import(t, p, "m1")
	wantKind(t, p.Grow(t.Context(), c.Size-1), fault.Invalid, "less than its 512 MiB")
	for _, size := range []int64{c.Size, 1 << 30, 1 << 30} {
		if err := p.Grow(t.Context(), size); err != nil {
			t.Fatal(err)
		}
		u, err := p.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if u.Total < size-size/4 {
			t.Errorf("pool has %d bytes after growing it to %d", u.Total, size)
		}
	}
	if _, err := p.Machine("m1"); err != nil {
		t.Error(err)
	}
}

// staged lists what is in staging: nothing if the pool is not mounted.
func staged(t *testing.T, c pool.Config) []os.DirEntry {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(c.Dir, "staging"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return left
}

func wantStaged(t *testing.T, c pool.Config, want int) {
	t.Helper()
	if left := staged(t, c); len(left) != want {
		t.Errorf("staging holds %v, want %d entries", left, want)
	}
}

func TestCancelled(t *testing.T) {
	p := pooltest.New(t)
	pooltest.Import(t, p, "m1")
	snap := pooltest.Snapshot(t, p, "m1", "monday")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, do := range map[string]func() error{
		"flush":       func() error { return p.Flush(ctx, "m1") },
		"verify":      func() error { return p.Verify(ctx, snap.ID) },
		"own":         func() error { _, err := p.Own(ctx, snap.ID); return err },
		"new machine": func() error { _, err := p.NewMachine(ctx, "m2", snap.ID); return err },
		"import":      func() error { _, err := p.ImportMachine(ctx, "m2", pooltest.Source(t)); return err },
		"rollback":    func() error { _, err := p.Rollback(ctx, "m1", snap.ID); return err },
	} {
		t.Run(name, func(t *testing.T) {
			if err := do(); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want %v", err, context.Canceled)
			}
		})
	}
}
