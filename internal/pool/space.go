package pool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"bulkhead/internal/fault"

	"golang.org/x/sys/unix"
)

// floor is kept free in bytes beside what machines may need: for device
// states, manifests, metadata, and the up to 128 KiB that XFS sets aside
// around each written page of a shared file.
const floor = 64 << 20

const fullHint = "remove snapshots or sandboxes, or enlarge the pool"

// Usage is the space of a pool, in bytes.
type Usage struct {
	Total int64
	// Free is what can still be written. For a pool in an image it is not
	// more than what is free where the image is.
	Free int64
	// Reserved is the part of Free that is kept for machines that exist.
	Reserved int64
}

// Usage asks the file system.
func (p *Pool) Usage() (u Usage, err error) {
	defer wrap(&err, "measure pool")
	total, free, err := space(p.dir)
	if err != nil {
		return Usage{}, err
	}
	if p.image != "" {
		_, below, err := space(filepath.Dir(p.image))
		if err != nil {
			return Usage{}, err
		}
		free = min(free, below)
	}
	reserved, err := p.reserved()
	return Usage{Total: total, Free: free, Reserved: reserved}, err
}

func space(dir string) (total, free int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return int64(s.Blocks) * s.Bsize, int64(s.Bavail) * s.Bsize, nil
}

// reserved returns how many bytes must stay free so that no machine is lost.
//
// A VMM maps its memory file: a write to a page that has no block of its own
// kills it (SIGBUS) if there is no block left. So for each machine its whole
// memory is kept. That is exact after a snapshot or a restore, when all of it
// is shared, and too much later on: the blocks that it has got by then are
// counted again, as telling them apart means reading all extents.
//
// It does not count disks, which are sparse and overcommitted: a guest that
// fills its disk takes the space from this reserve. Its own writes fail first
// only if the pool is not full before.
func (p *Pool) reserved() (int64, error) {
	ids, err := p.names(machinesDir)
	if err != nil {
		return 0, err
	}
	sum := int64(floor)
	for _, id := range ids {
		info, err := os.Stat(p.path(machinesDir, id, memoryFile))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return 0, err
		}
		sum += info.Size()
	}
	return sum, nil
}

// admit refuses work, before it begins, for which the pool has not enough
// space: need bytes beside the reserve. Until done is called the bytes are
// promised, so that of several at once not more get through than fit.
func (p *Pool) admit(need int64) (done func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u, err := p.Usage()
	if err != nil {
		return nil, err
	}
	if kept := u.Reserved + p.promised; u.Free < kept+need {
		return nil, fault.New(fault.Exhausted, "pool is full: %d MiB free, %d MiB kept for machines, %d MiB needed",
			u.Free>>20, kept>>20, need>>20).Hint(fullHint)
	}
	p.promised += need
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.promised -= need
	}, nil
}

// allocated returns how many bytes on disk the files at paths take together,
// which begin at dir.
func allocated(dir string, paths ...string) (sum int64, err error) {
	for _, path := range paths {
		var s unix.Stat_t
		path = filepath.Join(dir, path)
		if err := unix.Stat(path, &s); err != nil {
			return 0, &os.PathError{Op: "stat", Path: path, Err: err}
		}
		sum += s.Blocks * 512 // stat(2): always of 512 bytes
	}
	return sum, nil
}
