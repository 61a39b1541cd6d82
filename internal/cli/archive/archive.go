// Package archive moves files as tar streams between here and a sandbox.
//
// What comes out of a sandbox is hostile: names may climb out of the target,
// links may point anywhere and be written through, entries may be devices or
// claim to be larger than any disk. Unpack makes nothing but files, folders
// and links, and makes them below the one name that it was told, which os.Root
// has the kernel enforce.
//
// archive knows neither sandboxes nor clients. It has no state.
package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// maxEntries bounds how many files one copy can make.
const maxEntries = 1 << 20

// maxName bounds a name within the archive: longer paths (PATH_MAX of Linux)
// could be made step by step, but no program could open them.
const maxName = 4095

// Pack writes the file or folder at source to w as a tar stream in which it is
// called name. Symbolic links stay links. After an error the stream has no end
// mark; but tar takes such a stream for a whole one, so the error must be told.
func Pack(w io.Writer, source, name string) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, p)
		if err != nil {
			return err
		}
		return packOne(t, p, path.Join(name, filepath.ToSlash(rel)), d)
	})
	if err != nil {
		return fmt.Errorf("pack %s: %w", source, err)
	}
	return t.Close()
}

func packOne(t *tar.Writer, p, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	target := ""
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if target, err = os.Readlink(p); err != nil {
			return err
		}
	case !info.Mode().IsRegular() && !info.IsDir():
		return fmt.Errorf("%s is neither file, folder nor link", p)
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = name, 0, 0, "", ""
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	// No more than was promised: somebody may be writing to it, as to a log.
	_, err = io.Copy(t, io.LimitReader(f, h.Size))
	return err
}

// Unpack reads a tar stream of one file, folder or link and lays it into dir,
// which exists, under name instead of its own. Folders are merged; whatever
// else exists is replaced. Of modes it keeps the permissions; folders stay
// writable for their owner. Devices and pipes are left out. What was made
// before an error stays.
func Unpack(r io.Reader, dir, name string) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	u := unpacker{tar: tar.NewReader(r), dir: root, name: name}
	defer func() { err = errors.Join(err, u.close()) }()
	for n := 0; ; n++ {
		h, err := u.tar.Next()
		if errors.Is(err, io.EOF) {
			// Padding; the sender must not block, and may still say what went wrong.
			_, err := io.Copy(io.Discard, r)
			if err == nil && n == 0 {
				err = errors.New("archive is empty")
			}
			return err
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if n == maxEntries {
			return fmt.Errorf("archive has more than %d entries", maxEntries)
		}
		if err := u.entry(h); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
}

// unpacker is one Unpack under way.
type unpacker struct {
	tar  *tar.Reader
	dir  *os.Root
	name string // what the archive is called in dir
	// top is the folder of that name, nil until the archive has begun with
	// one. Its own confinement keeps links in it from leading beside it.
	top *os.Root
}

func (u *unpacker) close() error {
	if u.top == nil {
		return u.dir.Close()
	}
	return errors.Join(u.top.Close(), u.dir.Close())
}

func (u *unpacker) entry(h *tar.Header) error {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			// A few bytes of archive would become any number of bytes here.
			return errors.New("sparse files are not supported")
		}
	}
	name := below(h.Name)
	if len(name) > maxName {
		return errors.New("its name is too long")
	}
	if u.top != nil {
		return u.lay(u.top, h, name)
	}
	if name != "." {
		return errors.New("archive does not begin with its one file or folder")
	}
	if h.Typeflag != tar.TypeDir {
		return u.lay(u.dir, h, u.name)
	}
	if err := u.dir.Mkdir(u.name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := u.dir.Lstat(u.name)
	if err != nil {
		return err
	}
	if !info.IsDir() { // a link to a folder neither: an archive before this may have left it
		return fmt.Errorf("%s exists and is no folder", u.name)
	}
	if u.top, err = u.dir.OpenRoot(u.name); err != nil {
		return err
	}
	return u.lay(u.top, h, ".")
}

// below returns an entry's name without its first element, which is what was
// packed ("." too), and "." if that is all.
func below(entry string) string {
	_, rest, _ := strings.Cut(strings.TrimLeft(entry, "/"), "/")
	return path.Join(".", path.Clean("/" + rest)[1:])
}

// lay makes one entry, called name in root.
func (u *unpacker) lay(root *os.Root, h *tar.Header, name string) error {
	perm := fs.FileMode(h.Mode).Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, 0o700|perm); err != nil {
			return err
		}
		return root.Chmod(name, 0o700|perm)
	case tar.TypeReg:
		return u.file(root, name, perm)
	case tar.TypeSymlink:
		if err := clearWay(root, name); err != nil {
			return err
		}
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		if u.top == nil {
			return errors.New("it is a hard link to nothing")
		}
		if err := clearWay(root, name); err != nil {
			return err
		}
		return root.Link(below(h.Linkname), name)
	}
	return nil // devices, pipes and whatever else has no place here
}

// file writes to a file that did not exist before, so that a link that an
// earlier entry left is not followed.
func (u *unpacker) file(root *os.Root, name string, perm fs.FileMode) error {
	if err := clearWay(root, name); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, u.tar)
	return errors.Join(err, f.Chmod(perm), f.Close())
}

// clearWay removes what is in the way of a new file; a folder only if it is
// empty.
func clearWay(root *os.Root, name string) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	err := root.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
