package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

const (
	// maxEntries bounds how many files and folders one copy can make.
	maxEntries = 1 << 20
	// maxName bounds a name within the archive: longer paths (PATH_MAX of
	// Linux) could be made step by step, but no program could open them.
	maxName = 4095
	// maxKnown bounds how many folders are remembered, by names of up to
	// maxName.
	maxKnown = 1 << 14
	// maxTrailer bounds what follows the end mark: padding, of which tar sends
	// less than 10 KiB.
	maxTrailer = 1 << 20
)

// Target is where an archive goes.
type Target struct {
	// Dir exists; what is in the archive is called Name in it.
	Dir, Name string
	// MaxBytes bounds the sum of all files.
	MaxBytes int64
	// LeftOut, unless nil, is told what is left out and why. The name is the
	// guest's.
	LeftOut func(name, why string)
}

// Unpack reads a tar stream of one file or folder and lays it down. Folders
// are merged; whatever else exists is replaced. Of modes it keeps the
// permissions; folders stay writable for their owner. What was made before an
// error stays.
//
// Left out are devices, pipes, and symbolic links that lead out of the folder:
// somebody here might follow them.
func Unpack(r io.Reader, to Target) (_ Tally, err error) {
	dir, err := os.OpenRoot(to.Dir)
	if err != nil {
		return Tally{}, err
	}
	u := &unpacker{Target: to, tar: tar.NewReader(r), dir: dir, folders: map[string]bool{".": true}}
	defer func() { err = errors.Join(err, u.close()) }()
	for n := 0; ; n++ {
		h, err := u.tar.Next()
		switch {
		case errors.Is(err, io.EOF) && n == 0:
			return u.tally, errors.New("archive is empty")
		case errors.Is(err, io.EOF):
			return u.tally, drain(r)
		case err != nil:
			return u.tally, fmt.Errorf("read archive: %w", err)
		case n == maxEntries:
			return u.tally, fmt.Errorf("archive has more than %d entries", maxEntries)
		}
		if err := u.entry(h); err != nil {
			return u.tally, fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
}

// drain reads the padding: the sender must not block.
func drain(r io.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxTrailer))
	if n == maxTrailer && err == nil {
		return errors.New("archive goes on after its end")
	}
	return err
}

// unpacker is one Unpack under way.
type unpacker struct {
	Target
	tar   *tar.Reader
	tally Tally
	dir   *os.Root
	// top is the folder of the target's name, nil until the archive has begun
	// with one. Its own confinement keeps everything else out of reach.
	top *os.Root
	// folders remembers names below top that are folders and no links: entries
	// go through nothing else. So an entry is where its name says, and so is
	// what a relative link leads to.
	folders map[string]bool
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
	switch {
	case len(name) > maxName:
		return errors.New("its name is too long")
	case u.top != nil:
		return u.lay(h, name)
	case name != ".":
		return errors.New("archive does not begin with its one file or folder")
	case h.Typeflag == tar.TypeReg:
		return u.file(u.dir, h, u.Name)
	case h.Typeflag != tar.TypeDir:
		return errors.New("it is neither file nor folder")
	}
	if err := u.folder(u.dir, u.Name, 0o700); err != nil {
		return err
	}
	var err error
	if u.top, err = u.dir.OpenRoot(u.Name); err != nil {
		return err
	}
	return u.lay(h, ".")
}

// below returns an entry's name without its first element, which is what was
// packed ("." too), and "." if that is all.
func below(entry string) string {
	_, rest, _ := strings.Cut(strings.TrimLeft(entry, "/"), "/")
	return path.Join(".", path.Clean("/" + rest)[1:])
}

// lay makes one entry, called name below top.
func (u *unpacker) lay(h *tar.Header, name string) error {
	if err := u.way(path.Dir(name)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := u.way(name); err != nil {
			return err
		}
		return u.top.Chmod(name, 0o700|fs.FileMode(h.Mode).Perm())
	case tar.TypeReg:
		return u.file(u.top, h, name)
	case tar.TypeSymlink:
		if !inward(name, h.Linkname) {
			u.leaveOut(h, "a link that leads out of the folder")
			return nil
		}
		return u.link(name, func() error { return u.top.Symlink(h.Linkname, name) })
	case tar.TypeLink:
		old := below(h.Linkname)
		if err := u.way(path.Dir(old)); err != nil {
			return err
		}
		// Another link may lead out from where this one would be.
		if info, err := u.top.Lstat(old); err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("%s is no file to link to", old)
		}
		return u.link(name, func() error { return u.top.Link(old, name) })
	case tar.TypeXGlobalHeader:
		return nil // says something about others
	}
	u.leaveOut(h, "neither file, folder nor link")
	return nil
}

func (u *unpacker) leaveOut(h *tar.Header, why string) {
	u.tally.LeftOut++
	if u.LeftOut != nil {
		u.LeftOut(h.Name, why)
	}
}

// way makes sure that dir and all above it are folders.
func (u *unpacker) way(dir string) error {
	if len(u.folders) > maxKnown {
		u.folders = map[string]bool{".": true}
	}
	var unknown []string
	for ; !u.folders[dir]; dir = path.Dir(dir) {
		unknown = append(unknown, dir)
	}
	for _, dir := range slices.Backward(unknown) {
		if err := u.folder(u.top, dir, 0o755); err != nil {
			return err
		}
		u.folders[dir] = true
	}
	return nil
}

// folder makes a folder unless there is one. A link to a folder is none: who
// knows who left it there.
func (u *unpacker) folder(root *os.Root, name string, perm fs.FileMode) error {
	err := root.Mkdir(name, perm)
	if err == nil {
		return u.count(0)
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s exists and is no folder", name)
	}
	return err
}

// file writes to a file that did not exist before, so that a link that somebody
// left is not followed.
func (u *unpacker) file(root *os.Root, h *tar.Header, name string) error {
	if err := u.clear(root, name); err != nil {
		return err
	}
	if err := u.count(h.Size); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, u.tar)
	return errors.Join(err, f.Chmod(fs.FileMode(h.Mode).Perm()), f.Close())
}

func (u *unpacker) link(name string, lay func() error) error {
	if err := u.clear(u.top, name); err != nil {
		return err
	}
	if err := u.count(0); err != nil {
		return err
	}
	return lay()
}

// clear removes what is in the way of something new; a folder only if it is
// empty.
func (u *unpacker) clear(root *os.Root, name string) error {
	delete(u.folders, name)
	err := root.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// count adds something of size bytes, if there is room for it.
func (u *unpacker) count(size int64) error {
	switch {
	case size > u.MaxBytes-u.tally.Bytes:
		return fmt.Errorf("archive is larger than %d bytes", u.MaxBytes)
	case u.tally.Entries == maxEntries:
		return fmt.Errorf("archive makes more than %d files and folders", maxEntries)
	}
	u.tally.Entries++
	u.tally.Bytes += size
	return nil
}

// inward reports whether a link called name leads to something below the same
// top: relative, and up only at its beginning, because behind another link
// that would lead elsewhere.
func inward(name, target string) bool {
	rest, up := target, 0
	for rest == ".." || strings.HasPrefix(rest, "../") {
		rest, up = strings.TrimLeft(rest[2:], "/"), up+1
	}
	return target != "" && !path.IsAbs(target) && up <= strings.Count(name, "/") &&
		!slices.Contains(strings.Split(rest, "/"), "..")
}
