package pool

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"bulkhead/internal/durable"
	"bulkhead/internal/pool/reflink"

	"golang.org/x/sys/unix"
)

// changes is every way in which a pool changes its file system, one step each,
// so that a test can stop it before any of them.
type changes struct {
	dir    string
	before func(op, path string) error // nil: nothing
}

func (c changes) step(op, path string) error {
	if c.before == nil {
		return nil
	}
	rel, err := filepath.Rel(c.dir, path)
	if err != nil {
		return err
	}
	return c.before(op, rel)
}

func (c changes) mkdir(path string) error {
	if err := c.step("mkdir", path); err != nil {
		return err
	}
	return os.Mkdir(path, 0o700)
}

// create makes a new file of size bytes without data.
func (c changes) create(path string, size int64) (*os.File, error) {
	if err := c.step("create", path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (c changes) clone(dst, src string) error {
	if err := c.step("clone", dst); err != nil {
		return err
	}
	return reflink.Clone(dst, src)
}

func (c changes) copy(ctx context.Context, dst, src string) error {
	if err := c.step("copy", dst); err != nil {
		return err
	}
	return reflink.Copy(ctx, dst, src)
}

func (c changes) truncate(path string, size int64) error {
	if err := c.step("truncate", path); err != nil {
		return err
	}
	return os.Truncate(path, size)
}

func (c changes) write(path string, data []byte) error {
	if err := c.step("write", path); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// sync makes a file's content or a folder's names durable.
func (c changes) sync(path string) error {
	if err := c.step("sync", path); err != nil {
		return err
	}
	return durable.Sync(path)
}

// rename fails with os.ErrExist if there is something at to.
func (c changes) rename(from, to string) error {
	return c.renameat2("rename", from, to, unix.RENAME_NOREPLACE)
}

// exchange swaps two folders in one step.
func (c changes) exchange(a, b string) error {
	return c.renameat2("exchange", a, b, unix.RENAME_EXCHANGE)
}

func (c changes) renameat2(op, from, to string, flags uint) error {
	if err := c.step(op, to); err != nil {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags); err != nil {
		return &os.LinkError{Op: op, Old: from, New: to, Err: err}
	}
	return nil
}

// remove removes a folder in staging and all that is in it.
func (c changes) remove(path string) error {
	if err := c.step("remove", path); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// stage makes an empty folder in staging.
func (p *Pool) stage() (string, error) {
	dir := p.path(stagingDir, newName())
	return dir, p.change.mkdir(dir)
}

// discard removes a folder of the pool, if it exists: first from its place,
// so that nobody finds half of it.
func (p *Pool) discard(dir string) error {
	if filepath.Dir(dir) != p.path(stagingDir) {
		out := p.path(stagingDir, newName())
		if err := p.change.rename(dir, out); errors.Is(err, os.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		dir = out
	}
	return p.change.remove(dir)
}
