// Package pool keeps machines and snapshots as files on a file system with
// reflinks, so that a copy of either costs no data and next to no time.
//
//	machines/<id>/    memory disk kernel initrd state   what a VMM runs on
//	snapshots/<id>/   the same, and manifest            never changed again
//	staging/          half-made and half-removed things
//
// The one idea: a machine or a snapshot is a folder that appears whole or not
// at all. It is made in staging and renamed to its place; it is removed by
// renaming it into staging. So what is in staging belongs to nobody after a
// crash, and Open removes it. A snapshot is synced before it is renamed and
// signed by its manifest, which is the only truth about it; a machine is not
// synced, because it does not outlive a power cut but by a snapshot.
//
//	Begin ──► draft ──Clone──► draft ──Commit──► snapshot ──RemoveSnapshot──► gone
//	            └──Discard, crash──► gone
//
// Templates are snapshots like any other.
//
// pool knows files, not machines: it must not import vmm, guest or sandbox. A
// Pool is safe for concurrent use, but the operations on one machine must not
// overlap (Flush may). Errors that a caller can act on carry a fault.Kind:
// NotFound, Exists, Corrupt, Exhausted (the pool is full), WrongState (files
// are in use), Invalid.
package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool/digest"
	"bulkhead/internal/pool/loop"
	"bulkhead/internal/pool/reflink"
	"bulkhead/internal/pool/unchanged"
	"bulkhead/internal/unwind"

	"golang.org/x/sys/unix"
)

// Config says where a pool is.
type Config struct {
	// Dir is the pool's folder, absolute. It is made if it does not exist.
	Dir string
	// Image is a file that holds the pool's file system, mounted on Dir. It is
	// used if it exists, and made if Dir's own file system has no reflinks.
	// Empty: Dir's file system must have them.
	Image string
	// Size is what Image is made with, in bytes; it is sparse.
	Size int64
	// Key signs manifests: 32 bytes or more that only this host knows.
	Key []byte
	Log *slog.Logger

	// Before, if not nil, is called before each change of the file system
	// with the operation and the path below Dir; an error from it ends the
	// operation there. Tests use it to stop at each step.
	Before func(op, path string) error
}

// Pool is an open pool.
type Pool struct {
	dir    string
	image  string // "" if the pool is a plain folder
	key    []byte
	log    *slog.Logger
	change changes

	removals sync.WaitGroup // removals in the background; Close waits
	digests  digest.Cache
	// manifests are for those who look on, many times a second; what is restored
	// is read anew.
	manifests unchanged.Cache[manifest]

	mu       sync.Mutex
	promised int64 // bytes for machines that are being made; guarded by mu
}

// Open opens the pool, making and mounting its file system where necessary,
// and removes what a crash left in staging. A damaged snapshot does not stop
// it: it is logged, and refused where it is used.
//
// At most one process may have a pool open. Open does not check that.
func Open(ctx context.Context, c Config) (_ *Pool, err error) {
	defer wrap(&err, "open pool %s", c.Dir)
	if len(c.Key) < 32 {
		return nil, errors.New("host key is shorter than 32 bytes")
	}
	var undo unwind.Stack
	defer undo.OnError(ctx, &err)
	p := &Pool{dir: c.Dir, key: c.Key, log: c.Log, change: changes{dir: c.Dir, before: c.Before}}
	if p.image, err = mount(ctx, c, &undo); err != nil {
		return nil, err
	}
	if err := os.Chmod(c.Dir, 0o700); err != nil {
		return nil, err
	}
	for _, sub := range []string{machinesDir, snapshotsDir, stagingDir} {
		if err := os.MkdirAll(p.path(sub), 0o700); err != nil {
			return nil, err
		}
	}
	if err := p.sweep(); err != nil {
		return nil, err
	}
	snapshots, err := p.Snapshots()
	if err != nil {
		return nil, err
	}
	for _, s := range snapshots {
		if s.Damage != "" {
			p.log.WarnContext(ctx, "snapshot is damaged", "snapshot", string(s.ID), "err", s.Damage)
		}
	}
	return p, nil
}

// mount makes sure that files in c.Dir can be reflinked, and returns c.Image
// if it is mounted there for that, "" if not.
func mount(ctx context.Context, c Config, undo *unwind.Stack) (image string, err error) {
	exists, err := isThere(c.Image)
	if err != nil {
		return "", err
	}
	if exists {
		mounted, err := adopt(c)
		if mounted || err != nil {
			return c.Image, err
		}
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return "", err
	}
	if !exists {
		err := reflink.Probe(c.Dir)
		if !errors.Is(err, errors.ErrUnsupported) {
			return "", err
		}
		if err := create(ctx, c, err); err != nil {
			return "", err
		}
	}
	if err := loop.Mount(c.Image, c.Dir); err != nil {
		return "", err
	}
	undo.Add("unmount pool", func(context.Context) error { return loop.Unmount(c.Dir) })
	return c.Image, nil
}

// adopt reports whether an earlier process mounted the pool. If its file
// system has shut down since, it unmounts it: mounting it anew repairs it.
func adopt(c Config) (mounted bool, err error) {
	mounted, err = loop.Mounted(c.Image, c.Dir)
	if !mounted || err != nil {
		return false, err
	}
	if _, err := os.Stat(c.Dir); errors.Is(err, unix.EIO) {
		return false, loop.Unmount(c.Dir)
	}
	return true, nil
}

// create makes the pool's image. why says what c.Dir lacks.
func create(ctx context.Context, c Config, why error) error {
	if c.Image == "" {
		return fault.New(fault.Unsupported, "its file system has no reflinks: %w", why).
			Hint("put the state directory on XFS or btrfs, or configure a pool image")
	}
	if c.Size < loop.MinSize {
		return fault.New(fault.Invalid, "size of %d MiB is below %d MiB", c.Size>>20, loop.MinSize>>20).
			Hint("configure a larger pool")
	}
	err := loop.Create(ctx, c.Image, c.Size)
	if errors.Is(err, exec.ErrNotFound) {
		return fault.New(fault.Unavailable, "%w", err).Hint("apt-get install xfsprogs")
	}
	return err
}

func isThere(path string) (bool, error) {
	_, err := os.Stat(path) // "" does not exist
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// sweep empties staging.
func (p *Pool) sweep() error {
	left, err := os.ReadDir(p.path(stagingDir))
	if err != nil {
		return err
	}
	for _, e := range left {
		if err := os.RemoveAll(p.path(stagingDir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Close waits for removals in the background and unmounts the pool if Open or
// an earlier process mounted it. If files are in use it stays mounted, the
// error's kind is WrongState, and the next Open takes it over. Close may be
// repeated.
func (p *Pool) Close(ctx context.Context) error {
	p.removals.Wait()
	return Release(ctx, Config{Dir: p.dir, Image: p.image})
}

// Release unmounts a pool that nobody has open, as Close does. Finding it not
// mounted is no error. Only Dir and Image of c are used.
func Release(_ context.Context, c Config) (err error) {
	defer wrap(&err, "close pool %s", c.Dir)
	if exists, err := isThere(c.Image); !exists || err != nil {
		return err
	}
	mounted, err := loop.Mounted(c.Image, c.Dir)
	if !mounted || err != nil {
		return err
	}
	err = loop.Unmount(c.Dir)
	if errors.Is(err, loop.ErrBusy) {
		return fault.New(fault.WrongState, "%w", err).Hint("stop what uses files below %s", c.Dir)
	}
	return err
}

// Grow makes the pool's file system size bytes large. It is for pools in an
// image: Unsupported for others, Invalid if size is less than the image has.
func (p *Pool) Grow(ctx context.Context, size int64) (err error) {
	defer wrap(&err, "grow pool")
	if p.image == "" {
		return fault.New(fault.Unsupported, "it is a folder of the host's file system")
	}
	info, err := os.Stat(p.image)
	if err != nil {
		return err
	}
	if size < info.Size() {
		return fault.New(fault.Invalid, "%d MiB is less than its %d MiB", size>>20, info.Size()>>20)
	}
	return loop.Grow(ctx, p.image, p.dir, size)
}

// path returns the path of something in the pool.
func (p *Pool) path(elem ...string) string {
	return filepath.Join(append([]string{p.dir}, elem...)...)
}

// wrap puts what was being done in front of *errp, unless that is nil, and
// gives a full file system its kind.
func wrap(errp *error, format string, args ...any) {
	if *errp == nil {
		return
	}
	doing := fmt.Sprintf(format, args...)
	if errors.Is(*errp, unix.ENOSPC) || errors.Is(*errp, unix.EDQUOT) {
		*errp = fault.New(fault.Exhausted, "%s: pool is full: %w", doing, *errp).Hint(fullHint)
		return
	}
	*errp = fmt.Errorf("%s: %w", doing, *errp)
}
