// Package pooltest gives tests real pools: XFS in an image, mounted through a
// loop device. They leave nothing behind even if the test process is killed,
// as image and mount live in a mount namespace of that process.
//
// A test package that uses it has
//
//	func TestMain(m *testing.M) { pooltest.Main(m) }
//
// pooltest knows pool only. Its functions are to be called from the goroutine
// of the test.
package pooltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"bulkhead/internal/pool"

	"golang.org/x/sys/unix"
)

// inside marks the process that runs in a mount namespace of its own.
const inside = "POOLTEST_INSIDE"

// Main runs the tests of a package in a mount namespace of their own. It does
// not return.
func Main(m *testing.M) {
	if os.Getenv(inside) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // Pdeathsig is about the thread, not the process
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "run tests in a mount namespace of their own:", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// Folder returns an empty folder on a file system without reflinks, in RAM. It
// skips the test where mounts of its own are not possible.
func Folder(t testing.TB) string {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("needs root and pooltest.Main, to mount in a namespace of its own")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700"); err != nil {
		t.Fatalf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount test folder: %v", err)
			unix.Unmount(dir, unix.MNT_DETACH) // so that nothing stays
		}
	})
	return dir
}

// Config returns the configuration of a pool of 512 MiB that does not exist
// yet. At the end of the test the pool is released if it is mounted, and the
// test fails if that leaves its loop device.
func Config(t testing.TB) pool.Config {
	t.Helper()
	// Two folders: an image below which it is itself mounted would keep its
	// loop device for ever if somebody removed the folder from outside.
	c := pool.Config{
		Dir:   filepath.Join(Folder(t), "pool"),
		Image: filepath.Join(Folder(t), "pool.img"),
		Size:  512 << 20,
		Key:   bytes.Repeat([]byte("k"), 32),
		Log:   slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	t.Cleanup(func() {
		if err := pool.Release(context.Background(), c); err != nil {
			t.Errorf("release pool: %v", err)
			unix.Unmount(c.Dir, unix.MNT_DETACH)
		}
		if loops := Loops(t, c.Image); len(loops) != 0 {
			t.Errorf("pool is released, but its loop device stays: %v", loops)
		}
	})
	return c
}

// Open opens the pool of c and closes it at the end of the test.
func Open(t testing.TB, c pool.Config) *pool.Pool {
	t.Helper()
	p, err := pool.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// New opens a new pool and closes it at the end of the test.
func New(t testing.TB) *pool.Pool {
	t.Helper()
	return Open(t, Config(t))
}

// Loops returns the loop devices of an image.
func Loops(t testing.TB, image string) (devices []string) {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if name, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(name)) == image {
			devices = append(devices, f)
		}
	}
	return devices
}

// MemoryBytes is the memory of a machine from Import.
const MemoryBytes = 4 << 20

// Source returns files to import a machine from: 4 MiB of memory, a disk of
// 8 MiB with 1 MiB of data at 0 and at 4 MiB each, a kernel and an initrd.
func Source(t testing.TB) pool.Source {
	t.Helper()
	dir := t.TempDir()
	src := pool.Source{
		Disk:        filepath.Join(dir, "disk.img"),
		Kernel:      filepath.Join(dir, "vmlinuz"),
		Initrd:      filepath.Join(dir, "initrd.img"),
		DiskBytes:   8 << 20,
		MemoryBytes: MemoryBytes,
	}
	Write(t, src.Disk, 0, bytes.Repeat([]byte("disk"), 1<<18))
	Write(t, src.Disk, 4<<20, bytes.Repeat([]byte("tail"), 1<<18))
	Write(t, src.Kernel, 0, bytes.Repeat([]byte("kernel"), 1000))
	Write(t, src.Initrd, 0, bytes.Repeat([]byte("initrd"), 2000))
	return src
}

// Import makes a machine of Source.
func Import(t testing.TB, p *pool.Pool, id pool.MachineID) pool.Files {
	t.Helper()
	files, err := p.ImportMachine(t.Context(), id, Source(t))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Write writes data into a file at an offset, as a guest does into memory and
// disk, making the file if it does not exist.
func Write(t testing.TB, path string, at int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		_, err = f.WriteAt(data, at)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Take takes a snapshot of a machine as a sandbox does, with state as its
// device state.
func Take(ctx context.Context, p *pool.Pool, id pool.MachineID, state string, meta pool.Meta) (_ pool.Snapshot, err error) {
	if err := p.Flush(ctx, id); err != nil {
		return pool.Snapshot{}, err
	}
	d, err := p.Begin(ctx, id)
	if err != nil {
		return pool.Snapshot{}, err
	}
	defer func() { err = errors.Join(err, d.Discard(ctx)) }()
	if _, err := d.State().WriteString(state); err != nil {
		return pool.Snapshot{}, err
	}
	if err := d.Clone(ctx); err != nil {
		return pool.Snapshot{}, err
	}
	return d.Commit(ctx, meta)
}

// Snapshot is Take for tests that expect success.
func Snapshot(t testing.TB, p *pool.Pool, id pool.MachineID, name string) pool.Snapshot {
	t.Helper()
	s, err := Take(t.Context(), p, id, "state of "+name, pool.Meta{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
