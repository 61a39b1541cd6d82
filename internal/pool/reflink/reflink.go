// Package reflink copies files without copying their data, on file systems
// that can share extents between files (XFS, btrfs), and tells how much of a
// file is not shared.
//
// It knows paths, not what is in the files. It has no state: every function
// may be called at any time.
package reflink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// chunk is how much Copy copies between two looks at its context.
const chunk = 64 << 20

// Clone makes dst, which must not exist, a reflink of src with mode 0600. It
// writes back src's dirty pages first and syncs nothing. errors.ErrUnsupported
// if the file system has no reflinks or dst is on another one; on error dst
// does not exist.
func Clone(dst, src string) error {
	return withBoth(dst, src, func(out, in *os.File) error {
		if err := unix.IoctlFileClone(int(out.Fd()), int(in.Fd())); err != nil {
			return fmt.Errorf("reflink %s: %w", src, translate(err))
		}
		return nil
	})
}

// translate gives the refusals of FICLONE one name: a different file system
// (EXDEV), one without reflinks (EOPNOTSUPP, ENOTTY, EINVAL).
func translate(err error) error {
	switch {
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w (%w)", errors.ErrUnsupported, err)
	}
	return err // EOPNOTSUPP is errors.ErrUnsupported already
}

// Copy makes dst, which must not exist, a copy of src with mode 0600: a
// reflink where that is possible, else a copy of src's data that keeps its
// holes. It syncs nothing. On error dst does not exist.
func Copy(ctx context.Context, dst, src string) error {
	err := Clone(dst, src)
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return withBoth(dst, src, func(out, in *os.File) error {
		if err := copySparse(ctx, out, in); err != nil {
			return fmt.Errorf("copy %s: %w", src, err)
		}
		return nil
	})
}

// withBoth opens src, creates dst, calls do, and removes dst if that fails.
func withBoth(dst, src string, do func(out, in *os.File) error) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = errors.Join(err, os.Remove(dst))
		}
	}()
	return do(out, in)
}

// copySparse copies the parts of in that hold data and gives out its size.
func copySparse(ctx context.Context, out, in *os.File) error {
	info, err := in.Stat()
	if err != nil {
		return err
	}
	for end := int64(0); ; {
		start, err := in.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // no data from here on
			return out.Truncate(info.Size())
		}
		if err != nil {
			return err
		}
		if end, err = in.Seek(start, unix.SEEK_HOLE); err != nil {
			return err
		}
		if err := copyRange(ctx, out, in, start, end); err != nil {
			return err
		}
	}
}

func copyRange(ctx context.Context, out, in *os.File, start, end int64) error {
	if _, err := in.Seek(start, io.SeekStart); err != nil {
		return err
	}
	if _, err := out.Seek(start, io.SeekStart); err != nil {
		return err
	}
	for start < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		// CopyN uses copy_file_range(2) where the kernel can.
		n, err := io.CopyN(out, in, min(chunk, end-start))
		if err != nil {
			return err
		}
		start += n
	}
	return nil
}

// Probe returns nil if files in dir can be reflinked, and an error that wraps
// errors.ErrUnsupported if they cannot. It leaves nothing behind.
func Probe(dir string) (err error) {
	tmp, err := os.MkdirTemp(dir, ".probe")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	src := filepath.Join(tmp, "src")
	// One block of data: an empty file could be cloned anywhere.
	if err := os.WriteFile(src, make([]byte, 4096), 0o600); err != nil {
		return err
	}
	return Clone(filepath.Join(tmp, "dst"), src)
}
