package pool_test

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkhead/internal/pool"
	"bulkhead/internal/pool/pooltest"

	"golang.org/x/sys/unix"
)

// BenchmarkSnapshot takes snapshots of a machine with 512 MiB of memory that
// wrote 100 MiB since the last one, as one run of pages or as pages at random,
// on the disk that holds the temporary directory. It reports milliseconds:
// flush (while the VMM runs), stopped, commit (it runs again), and rollback.
func BenchmarkSnapshot(b *testing.B) {
	b.Run("run of pages", func(b *testing.B) {
		benchmarkSnapshot(b, func(memory []byte, round int) {
			at := round % 4 * (100 << 20)
			for i := at; i < at+100<<20; i += 4096 {
				memory[i]++
			}
		})
	})
	b.Run("pages at random", func(b *testing.B) {
		benchmarkSnapshot(b, func(memory []byte, _ int) {
			for range 100 << 20 / 4096 {
				memory[rand.IntN(len(memory))]++
			}
		})
	})
}

func benchmarkSnapshot(b *testing.B, write func(memory []byte, round int)) {
	dir := b.TempDir()
	p := pooltest.Open(b, pool.Config{
		Dir: filepath.Join(dir, "pool"), Image: filepath.Join(dir, "img"), Size: 8 << 30,
		Key: bytes.Repeat([]byte("k"), 32), Log: slog.New(slog.DiscardHandler),
	})
	src := pooltest.Source(b)
	src.MemoryBytes = 512 << 20
	m, err := p.ImportMachine(b.Context(), "m1", src)
	if err != nil {
		b.Fatal(err)
	}
	took := map[string]time.Duration{}
	timed := func(what string, do func() error) {
		began := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		took[what] += time.Since(began)
	}
	for round := 0; b.Loop(); round++ {
		memory := mapShared(b, m.Memory)
		write(memory, round)
		timed("flush", func() error { return p.Flush(b.Context(), "m1") })
		d, err := p.Begin(b.Context(), "m1")
		if err != nil {
			b.Fatal(err)
		}
		timed("stopped", func() error { return d.Clone(b.Context()) })
		var snap pool.Snapshot
		timed("commit", func() (err error) { snap, err = d.Commit(b.Context(), pool.Meta{}); return err })
		if err := unix.Munmap(memory); err != nil {
			b.Fatal(err)
		}
		timed("rollback", func() error { _, err := p.Rollback(b.Context(), "m1", snap.ID); return err })
	}
	for what, d := range took {
		b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), what+"-ms")
	}
}

func mapShared(b *testing.B, path string) []byte {
	b.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		b.Fatal(err)
	}
	return memory
}

// BenchmarkSnapshots lists the snapshots of a pool that has many, which every
// look at a timeline does.
func BenchmarkSnapshots(b *testing.B) {
	p := pooltest.New(b)
	pooltest.Import(b, p, "m1")
	for range 200 {
		d, err := p.Begin(b.Context(), "m1")
		if err == nil {
			err = d.Clone(b.Context())
		}
		if err == nil {
			_, err = d.Commit(b.Context(), pool.Meta{})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := p.Snapshots(); err != nil {
			b.Fatal(err)
		}
	}
}
