// Package loop keeps a file system with reflinks (XFS) in a sparse file and
// mounts it through a loop device.
//
// The device has no owner: it is attached with autoclear, so it goes with the
// last thing that uses it, normally the mount. Nothing needs to be remembered
// either: whether an image is mounted on a folder is asked of the kernel.
//
// loop does not know what the file system is for. Calls for one image must
// not run at the same time.
package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"bulkhead/internal/durable"

	"golang.org/x/sys/unix"
)

// MinSize is the smallest image in bytes: mkfs.xfs refuses less.
const MinSize = 300 << 20

// sector is the block size of file system and device in bytes. With the
// largest common one, direct I/O works whatever the disk below has.
const sector = 4096

// ErrBusy is what Unmount returns while files of the file system are in use.
var ErrBusy = errors.New("files are in use")

// Create makes a sparse file of size bytes with an empty file system in it,
// replacing what has the name. A crash leaves nothing or all of it there.
func Create(ctx context.Context, image string, size int64) (err error) {
	fresh := image + ".new" // what a crash left of it is overwritten
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make file system in %s: %w", image, err), os.RemoveAll(fresh))
		}
	}()
	f, err := os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	if err := run(ctx, "mkfs.xfs", "-q", "-f", "-m", "reflink=1", "-s", fmt.Sprintf("size=%d", sector), fresh); err != nil {
		return err
	}
	if err := durable.Sync(fresh); err != nil {
		return err
	}
	return durable.Rename(fresh, image)
}

// run runs a tool of xfsprogs.
func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.Join(strings.Fields(string(out)), " "))
	}
	return nil
}

// Mount mounts image on the folder dir: no devices, no set-uid, no programs.
// What is removed there is given back to the file system that holds image.
func Mount(image, dir string) error {
	device, err := attach(image)
	if err != nil {
		return fmt.Errorf("attach loop device to %s: %w", image, err)
	}
	defer device.Close() // from here on the mount keeps it attached
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME
	if err := unix.Mount(device.Name(), dir, "xfs", flags, "discard"); err != nil {
		return fmt.Errorf("mount %s on %s: %w", image, dir, err)
	}
	return nil
}

// Mounted reports whether image is mounted on dir, which need not exist. It
// does not touch the file system there, which may have shut down.
func Mounted(image, dir string) (bool, error) {
	backing, err := os.Open(image)
	if err != nil {
		return false, err
	}
	defer backing.Close()
	device, err := find(backing)
	if device == nil || err != nil {
		return false, err
	}
	defer device.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(device.Fd()), &stat); err != nil {
		return false, fmt.Errorf("stat %s: %w", device.Name(), err)
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	// proc_pid_mountinfo(5): … major:minor root mount-point …
	escape := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`)
	entry := fmt.Sprintf(" %d:%d / %s ", unix.Major(stat.Rdev), unix.Minor(stat.Rdev),
		escape.Replace(filepath.Join(parent, filepath.Base(dir))))
	return strings.Contains(string(table), entry), nil
}

// Unmount unmounts the file system on dir, and with it the loop device goes.
// ErrBusy if files are in use; then it stays mounted.
func Unmount(dir string) error {
	err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		err = ErrBusy
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// Grow gives image, mounted on dir, a size of size bytes, which must not be
// less than it has. After an error or a crash it can be repeated.
func Grow(ctx context.Context, image, dir string, size int64) error {
	backing, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer backing.Close()
	device, err := find(backing)
	if err != nil {
		return err
	}
	if device == nil {
		return fmt.Errorf("%s is not mounted", image)
	}
	defer device.Close()
	if err := backing.Truncate(size); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("resize %s: %w", device.Name(), err)
	}
	return run(ctx, "xfs_growfs", "-d", dir)
}
