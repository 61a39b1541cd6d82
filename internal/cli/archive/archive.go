// Package archive moves files as tar streams between here and a sandbox.
//
// What comes out of a sandbox is hostile: names may climb out of the target,
// links may point anywhere, entries may be devices. Unpack works below one
// folder through os.Root, which the kernel confines, and makes nothing but
// files, folders and links.
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

// Pack writes the file or folder at source as a tar stream to w. The names in
// it begin with the source's own.
func Pack(w io.Writer, source string) error {
	abs, err := filepath.Abs(source)
	if err != nil {
		return err
	}
	parent := filepath.Dir(abs)
	t := tar.NewWriter(w)
	err = filepath.WalkDir(abs, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(parent, p)
		if err != nil {
			return err
		}
		return packOne(t, p, filepath.ToSlash(name), d)
	})
	return errors.Join(err, t.Close())
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
	_, err = io.Copy(t, f)
	return err
}

// Unpack reads a tar stream and lays its one file or folder into dir, which
// exists, under name instead of its own. Existing files are replaced.
func Unpack(r io.Reader, dir, name string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			_, err := io.Copy(io.Discard, r) // padding; the sender must not block
			return err
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if n == maxEntries {
			return fmt.Errorf("archive has more than %d entries", maxEntries)
		}
		if err := unpackOne(root, t, h, renamed(h.Name, name)); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
}

// renamed replaces the first element of an entry's name.
func renamed(entry, name string) string {
	_, rest, _ := strings.Cut(path.Clean("/" + entry)[1:], "/")
	return path.Join(name, rest)
}

func unpackOne(root *os.Root, t *tar.Reader, h *tar.Header, name string) error {
	perm := fs.FileMode(h.Mode).Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, 0o700|perm); err != nil {
			return err
		}
		return root.Chmod(name, 0o700|perm)
	case tar.TypeReg:
		return unpackFile(root, t, name, perm)
	case tar.TypeSymlink:
		if err := clear(root, name); err != nil {
			return err
		}
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		_, first, _ := strings.Cut(path.Clean("/" + h.Linkname)[1:], "/")
		base, _, _ := strings.Cut(name, "/")
		if err := clear(root, name); err != nil {
			return err
		}
		return root.Link(path.Join(base, first), name)
	}
	return nil // devices, pipes and whatever else has no place here
}

// unpackFile writes to a file that did not exist before, so that a link that
// an earlier entry left is not followed.
func unpackFile(root *os.Root, t *tar.Reader, name string, perm fs.FileMode) error {
	if err := clear(root, name); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, t)
	return errors.Join(err, f.Chmod(perm), f.Close())
}

func clear(root *os.Root, name string) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	err := root.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
