package archive

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// Pack writes the file or folder at source to w as a tar stream in which it is
// called name, and counts in tally what it has written. Symbolic links stay
// links; what is neither file, folder nor link is an error. After an error the
// stream has no end mark; but tar takes such a stream for a whole one, so the
// error must be told.
func Pack(w io.Writer, source, name string, tally *Tally) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, p)
		if err != nil {
			return err
		}
		n, err := packOne(t, p, path.Join(name, filepath.ToSlash(rel)), d)
		tally.Entries++
		tally.Bytes += n
		return err
	})
	if err != nil {
		return fmt.Errorf("pack %s: %w", source, err)
	}
	return t.Close()
}

func packOne(t *tar.Writer, p, name string, d fs.DirEntry) (int64, error) {
	info, err := d.Info()
	if err != nil {
		return 0, err
	}
	target := ""
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if target, err = os.Readlink(p); err != nil {
			return 0, err
		}
	case !info.Mode().IsRegular() && !info.IsDir():
		return 0, fmt.Errorf("%s is neither file, folder nor link", p)
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return 0, err
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = name, 0, 0, "", ""
	if err := t.WriteHeader(h); err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, nil
	}
	f, err := os.Open(p)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// No more than was promised: somebody may be writing to it, as to a log.
	return io.Copy(t, io.LimitReader(f, h.Size))
}
