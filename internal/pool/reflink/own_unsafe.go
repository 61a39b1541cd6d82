package reflink

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/fiemap.h and linux/fs.h.
const (
	fiemapIoctl      = 0xc020660b // _IOWR('f', 11, struct fiemap)
	extentLast       = 0x0001
	extentNoLocation = 0x0002 | 0x0004 // unknown, delayed allocation
	extentShared     = 0x2000
)

type extent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

// batch is how many extents one ioctl returns: 28 KiB.
const batch = 512

type extentMap struct {
	start, length               uint64
	flags, mapped, count, spare uint32
	extents                     [batch]extent
}

// maxExtents bounds the work of Own: a 4 GiB memory file, shared and not
// shared in turns from page to page, has about as many.
const maxExtents = 1 << 20

// Own returns how many bytes of the file system only this file holds: what
// removing it would free. Data that is not written back yet does not count. Of
// a file with more than maxExtents extents it counts the first ones.
func Own(ctx context.Context, path string) (own int64, err error) {
	err = eachExtent(ctx, path, func(e extent) {
		if e.flags&extentShared == 0 {
			own += int64(e.length)
		}
	})
	return own, err
}

// Union returns how many bytes of the file system the files at paths hold
// together, each block counted once, as Own counts.
func Union(ctx context.Context, paths ...string) (sum int64, err error) {
	type span struct{ from, to uint64 }
	var all []span
	for _, path := range paths {
		err := eachExtent(ctx, path, func(e extent) { all = append(all, span{e.physical, e.physical + e.length}) })
		if err != nil {
			return 0, err
		}
		// Files that come one after the other have much in common.
		slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.from, b.from) })
		merged := all[:0]
		for _, s := range all {
			if n := len(merged); n > 0 && s.from <= merged[n-1].to {
				merged[n-1].to = max(merged[n-1].to, s.to)
			} else {
				merged = append(merged, s)
			}
		}
		all = merged
	}
	for _, s := range all {
		sum += int64(s.to - s.from)
	}
	return sum, nil
}

// eachExtent calls f with the extents of a file that have a place on disk.
func eachExtent(ctx context.Context, path string, f func(extent)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	m := extentMap{count: batch}
	for range maxExtents / batch {
		if err := ctx.Err(); err != nil {
			return err
		}
		m.length = ^uint64(0) - m.start
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), fiemapIoctl, uintptr(unsafe.Pointer(&m))); errno != 0 {
			return fmt.Errorf("read extents of %s: %w", path, errno)
		}
		for _, e := range m.extents[:m.mapped] {
			if e.flags&extentNoLocation == 0 {
				f(e)
			}
			m.start = e.logical + e.length
		}
		if m.mapped == 0 || m.extents[m.mapped-1].flags&extentLast != 0 {
			break
		}
	}
	return nil
}
