// Package powercut gives tests a disk whose power can go: what was written to
// it and not flushed is lost then, or part of it.
//
// The disk is a file that QEMU's storage daemon shows through FUSE, so that a
// loop device on it works like one on any file. Every write, discard and flush
// goes into a log on its way (driver blklogwrites; the format is that of the
// kernel's dm-log-writes). What the disk holds after a power cut is made of
// that log, for as many moments as a test likes, while the disk itself goes on.
//
// powercut knows disks, nothing of the product.
package powercut

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/test/leak"

	"golang.org/x/sys/unix"
)

// patience bounds the start of the storage daemon.
const patience = time.Minute

// Disk is a disk that remembers what was written to it.
type Disk struct {
	// Path is the file to use as a disk. Nothing is on it.
	Path string

	dir string
}

// New makes a disk of size bytes in the folder dir, which is the caller's. The
// test ends with it not being in use any more.
func New(t testing.TB, dir string, size int64) *Disk {
	t.Helper()
	d := &Disk{Path: filepath.Join(dir, "disk"), dir: dir}
	for name, size := range map[string]int64{"disk": 0, "log": 0, "content": size} {
		if err := sparse(filepath.Join(dir, name), size); err != nil {
			t.Fatal(err)
		}
	}
	leak.Guardian(t, dir, "umount", "--lazy", d.Path)
	err := d.serve(t)
	if err == nil {
		err = d.serialize()
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// serialize has the kernel write one thing at a time: QEMU 7.2 puts a request
// into the buffer of the one before, which it may still be logging (mended in
// QEMU 10.1: "fuse: Copy write buffer content before polling").
func (d *Disk) serialize() (err error) {
	var s unix.Stat_t
	if err := unix.Stat(d.Path, &s); err != nil {
		return err
	}
	control := filepath.Join(d.dir, "control")
	if err := os.Mkdir(control, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("fusectl", control, "fusectl", 0, ""); err != nil {
		return fmt.Errorf("mount fusectl: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(control, 0)) }()
	// Documentation/filesystems/fuse.rst: a connection is named by its device.
	file := filepath.Join(control, fmt.Sprint(unix.Minor(s.Dev)), "max_background")
	return os.WriteFile(file, []byte("1"), 0)
}

// serve starts the storage daemon, which ends with the test.
func (d *Disk) serve(t testing.TB) error {
	node, err := json.Marshal(map[string]any{
		"driver": "blklogwrites", "node-name": "disk", "log-sector-size": sector,
		"file": map[string]any{"driver": "file", "filename": filepath.Join(d.dir, "content"), "discard": "unmap"},
		"log":  map[string]any{"driver": "file", "filename": filepath.Join(d.dir, "log")},
	})
	if err != nil {
		return err
	}
	var said strings.Builder
	cmd := exec.Command("qemu-storage-daemon", "--blockdev", string(node),
		"--export", "type=fuse,id=disk,node-name=disk,mountpoint="+d.Path+",writable=on")
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start storage daemon, of the package qemu-system-common: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		if err := unix.Unmount(d.Path, 0); err != nil {
			t.Errorf("unmount disk: %v", err)
			unix.Unmount(d.Path, unix.MNT_DETACH)
		}
		cmd.Process.Kill()
		<-ended
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for {
		var s unix.Statfs_t
		if err := unix.Statfs(d.Path, &s); err == nil && s.Type == unix.FUSE_SUPER_MAGIC {
			return nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return fmt.Errorf("storage daemon ended: %s", said.String())
		case <-limit:
			return errors.New("storage daemon does not show the disk")
		}
	}
}

// Mount makes a file system with reflinks on the disk and mounts it on dir,
// until Unmount of that folder.
func (d *Disk) Mount(ctx context.Context, dir string) error {
	if err := run(ctx, "mkfs.xfs", "-q", "-f", "-s", "size=4096", d.Path); err != nil {
		return err
	}
	return Mount(ctx, d.Path, dir)
}

// Mount mounts the file system of an image on dir. Like the pool's own device
// this one does direct I/O, and goes with the mount. The same file system may be
// mounted elsewhere, as it was at another moment.
func Mount(ctx context.Context, image, dir string) error {
	out, err := exec.CommandContext(ctx, "losetup", "--find", "--show", "--direct-io=on", "--sector-size=4096", image).Output()
	if err != nil {
		return fmt.Errorf("attach loop device to %s: %w", image, err)
	}
	device := strings.TrimSpace(string(out))
	return errors.Join(run(ctx, "mount", "-t", "xfs", "-o", "discard,nouuid", device, dir), run(ctx, "losetup", "--detach", device))
}

func run(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// sparse makes a new file without data.
func sparse(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}
