// Package layer lays the layers of a container image on each other, as a tree
// of files on the host.
//
// A layer is an archive that a stranger wrote, and it is unpacked by root. So
// the tree is all that there is: a link is followed as a machine would that has
// the tree for its root, a name with ".." is refused, and whatever a layer says,
// every call to the kernel goes through an os.Root, which does not leave its
// folder. Of what is not a file, a folder or a link nothing is made, and of
// extended attributes there is security.capability alone. What is read, what is
// written and how many entries there are is counted over all layers of a tree.
//
// layer knows tar and files. It must not know registries, or what a tree is for.
// A Tree is for one goroutine.
package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"bulkhead/internal/fault"

	"golang.org/x/sys/unix"
)

const (
	// maxName is the kernel's PATH_MAX, maxDepth the depth of folders, which is
	// also that to which programs descend that walk the tree.
	maxName, maxDepth = 4095, 200
	// maxNames bounds the names of one layer together, in bytes: they are kept
	// while it is laid.
	maxNames = 64 << 20
	// maxHops is how many links one name may lead over, as in the kernel.
	maxHops = 40
	// maxCapability is more than any security.capability has (24 bytes, see
	// linux/capability.h).
	maxCapability = 64
)

// Names of files that take away what lower layers have (OCI image layer
// specification, "Whiteouts").
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	// reserved begins the names of what AUFS keeps for itself.
	reserved = ".wh..wh."
)

const capability = "security.capability"

// Limits bound a tree.
type Limits struct {
	// Bytes is how much all layers may have unpacked, and how much may be
	// written for them.
	Bytes int64
	// Entries is how many there may be in all layers.
	Entries int
}

// Tree is a folder on which layers are laid, the lowest first.
type Tree struct {
	root *os.Root
	// read and written count down from Limits.Bytes, entries from Entries.
	read, written int64
	entries       int
	limits        Limits

	// own are the paths that the current layer has made, names their bytes.
	own   map[string]bool
	names int
	at    place
	// stale says that at may be another folder by now.
	stale bool
}

// place is the folder of the entry before: those of one folder follow each other.
type place struct {
	name, path string
	dir        *os.Root
}

// Open returns the tree in the folder dir, which must be empty and closed to
// others than root: set-user-ID programs are unpacked as such.
func Open(dir string, l Limits) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Tree{root: root, read: l.Bytes, written: l.Bytes, entries: l.Entries, limits: l}, nil
}

// Close closes the folder, whose content stays.
func (t *Tree) Close() error {
	t.leave()
	return t.root.Close()
}

// Apply lays one layer, an archive that is not compressed, on what is there. It
// reads r to its end. What is wrong with the archive is a fault.Invalid, what
// is more than the limits a fault.Exhausted; the tree is half changed then.
func (t *Tree) Apply(ctx context.Context, r io.Reader) error {
	t.own, t.names, t.stale = map[string]bool{}, 0, true
	in := &counted{ctx: ctx, r: r, left: &t.read, limits: t.limits}
	archive := tar.NewReader(in)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return broken(ctx, err)
		}
		if err := t.entry(h, archive); err != nil {
			return fmt.Errorf("entry %q: %w", cut(h.Name), broken(ctx, err))
		}
	}
	// What comes after the end of the archive is part of its digest.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return broken(ctx, err)
	}
	return nil
}

// cut shortens a name for people.
func cut(name string) string { return name[:min(len(name), 200)] }

// broken makes err a fault of the archive, unless it is the host's or has a
// kind.
func broken(ctx context.Context, err error) error {
	for _, host := range []error{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS, unix.EPERM, unix.EACCES, unix.EMFILE, unix.ENFILE} {
		if errors.Is(err, host) {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if fault.KindOf(err) != fault.Internal {
		return err
	}
	return fault.New(fault.Invalid, "layer is broken: %w", err)
}

func invalid(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }

// entry makes what one header of the archive says.
func (t *Tree) entry(h *tar.Header, content io.Reader) error {
	if t.entries--; t.entries < 0 {
		return fault.New(fault.Exhausted, "image has more than %d files", t.limits.Entries)
	}
	if !made(h.Typeflag) {
		return nil
	}
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	dir, base := path.Split(name)
	if base == "." {
		if h.Typeflag != tar.TypeDir {
			return invalid("the root is no folder")
		}
		return attributes(t.root, ".", h)
	}
	if strings.HasPrefix(base, whiteout) {
		return t.takeAway(dir, base)
	}
	at, err := t.enter(dir)
	if err != nil {
		return err
	}
	full := path.Join(at.path, base)
	if len(full) > maxName || strings.Count(full, "/") > maxDepth {
		return invalid("its path is too long")
	}
	if t.names += len(full); t.names > maxNames {
		return fault.New(fault.Exhausted, "names of one layer have more than %d MiB", maxNames>>20)
	}
	t.own[full] = true
	return t.make(at, base, h, content)
}

// made reports whether anything is made of an entry of that type. Devices and
// FIFOs are not: /dev is the kernel's in a machine, and a FIFO would block
// whoever opens it on the host.
func made(typ byte) bool {
	switch typ {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
		return true
	}
	return false
}

// clean returns a name without leading and trailing slashes; "." is the root.
func clean(name string) (string, error) {
	if len(name) > maxName || strings.ContainsRune(name, 0) {
		return "", invalid("not a name of a file")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", invalid("its name leads out of the image")
		}
	}
	return path.Clean(strings.TrimLeft(name, "/")), nil
}

// make makes one file, folder or link, in place of what has its name.
func (t *Tree) make(at place, base string, h *tar.Header, content io.Reader) error {
	there, err := at.dir.Lstat(base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case h.Typeflag == tar.TypeDir && there.IsDir():
		return attributes(at.dir, base, h)
	default:
		t.stale = true // it may be what led here
		if err := at.dir.RemoveAll(base); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := at.dir.Mkdir(base, 0o700); err != nil {
			return err
		}
		return attributes(at.dir, base, h)
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > maxName {
			return invalid("not a target of a link")
		}
		uid, gid, err := owner(h)
		if err != nil {
			return err
		}
		return errors.Join(at.dir.Symlink(h.Linkname, base), at.dir.Lchown(base, uid, gid))
	case tar.TypeLink:
		return t.link(h.Linkname, path.Join(at.path, base))
	}
	return t.file(at.dir, base, h, content)
}

// link makes another name of a file that the tree has.
func (t *Tree) link(target, name string) error {
	target, err := clean(target)
	if err != nil {
		return err
	}
	dir, base := path.Split(target)
	if dir, err = t.resolve(dir); err != nil {
		return err
	}
	target = path.Join(dir, base)
	there, err := t.root.Lstat(target)
	if err != nil || there.IsDir() {
		return invalid("it is a link to %q, which is no file of the image", cut(target))
	}
	return t.root.Link(target, name)
}

func (t *Tree) file(dir *os.Root, base string, h *tar.Header, content io.Reader) error {
	// A new file: what had its name is gone, and no link is followed.
	f, err := dir.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(content, t.written+1))
	if err != nil {
		return err
	}
	// A sparse file has more than what was read for it.
	if t.written -= n; t.written < 0 {
		return tooLarge(t.limits)
	}
	if err := attributes(dir, base, h); err != nil {
		return err
	}
	// After the owner, of which a change takes it away.
	if c, ok := h.PAXRecords["SCHILY.xattr."+capability]; ok && len(c) <= maxCapability {
		if err := unix.Fsetxattr(int(f.Fd()), capability, []byte(c), 0); err != nil {
			return fmt.Errorf("set %s: %w", capability, err)
		}
	}
	return f.Close()
}

// attributes gives a file or folder, which is no link, its owner, its rights
// and its time.
func attributes(dir *os.Root, base string, h *tar.Header) error {
	uid, gid, err := owner(h)
	if err != nil {
		return err
	}
	if err := dir.Chown(base, uid, gid); err != nil {
		return err
	}
	// After the owner, of which a change takes set-user-ID away.
	if err := dir.Chmod(base, h.FileInfo().Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	// What ext4 can keep: times from 1970 to 2446.
	at := time.Unix(min(max(h.ModTime.Unix(), 0), 1<<33), 0)
	return dir.Chtimes(base, at, at)
}

// owner returns whose an entry is. The last number means "as it was" to the
// kernel (chown(2)).
func owner(h *tar.Header) (uid, gid int, err error) {
	if h.Uid < 0 || h.Gid < 0 || h.Uid >= 1<<32-1 || h.Gid >= 1<<32-1 {
		return 0, 0, invalid("its owner %d:%d is none", h.Uid, h.Gid)
	}
	return h.Uid, h.Gid, nil
}

func tooLarge(l Limits) error {
	return fault.New(fault.Exhausted, "image has more than %d MiB unpacked, and would not fit", l.Bytes>>20).Hint("ask for a larger disk")
}

// counted reads until the context ends or the tree has had its share.
type counted struct {
	ctx    context.Context
	r      io.Reader
	left   *int64
	limits Limits
}

// Read fails by a fault.Exhausted at the limit.
func (c *counted) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(b)
	if *c.left -= int64(n); *c.left < 0 {
		return 0, tooLarge(c.limits)
	}
	return n, err
}
