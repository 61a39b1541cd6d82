package files

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/guestd/account"
)

// smallFile is how much of a file is read before its length is believed: files
// of procfs have none, those of sysfs too much.
const smallFile = 64 << 10

// userOf returns the user of an HTTP request: its query, then its header, then
// the default.
func (s *Service) userOf(r *http.Request) (account.User, error) {
	if name := r.URL.Query().Get("username"); name != "" {
		return s.opts.Users.Lookup(name)
	}
	return s.opts.Users.Of(r.Header)
}

// download answers GET /files?path=…: the bytes of a file, compressed if the
// client likes that and does not ask for a range or a condition.
func (s *Service) download(w http.ResponseWriter, r *http.Request) error {
	user, err := s.userOf(r)
	if err != nil {
		return err
	}
	path, err := user.Path(r.URL.Query().Get("path"), s.workdir())
	if err != nil {
		return err
	}
	f, fi, err := openFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	plain := false
	for _, h := range []string{"Range", "If-Modified-Since", "If-None-Match", "If-Range"} {
		plain = plain || r.Header.Get(h) != ""
	}
	zip, err := encoded(r.Header.Get("Accept-Encoding"), plain)
	if err != nil {
		return err
	}
	head := w.Header()
	head.Set("Vary", "Accept-Encoding")
	head.Set("Content-Disposition", mime.FormatMediaType("inline", map[string]string{"filename": filepath.Base(path)}))
	if zip {
		return sendGzip(w, f, path)
	}
	return send(w, r, f, fi)
}

// openFile opens a regular file for reading.
func openFile(path string) (*os.File, fs.FileInfo, error) {
	// O_NONBLOCK: opening a FIFO must not wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil, fault.New(fault.NotFound, "path '%s' does not exist", path)
	}
	if errors.Is(err, syscall.ENXIO) { // a socket
		return nil, nil, fault.New(fault.Invalid, "path '%s' is not a regular file", path)
	}
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	switch {
	case err != nil:
	case fi.IsDir():
		err = fault.New(fault.Invalid, "path '%s' is a directory", path)
	case !fi.Mode().IsRegular():
		err = fault.New(fault.Invalid, "path '%s' is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

func sendGzip(w http.ResponseWriter, f *os.File, path string) error {
	ctype := mime.TypeByExtension(filepath.Ext(path))
	if ctype == "" {
		ctype = "application/octet-stream"
	}
	w.Header().Set("Content-Type", ctype)
	w.Header().Set("Content-Encoding", "gzip")
	// The fastest level: the way out of the guest is short, its CPU is not fast.
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, f); err != nil {
		return nil // without the trailer the client sees that it is not all
	}
	_ = z.Close() // fails only if the client has gone
	return nil
}

// send serves a file as it is, with ranges and conditions.
func send(w http.ResponseWriter, r *http.Request, f *os.File, fi fs.FileInfo) error {
	small := make([]byte, smallFile)
	n, err := io.ReadFull(f, small)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		http.ServeContent(w, r, f.Name(), modTime(fi), bytes.NewReader(small[:n]))
	case err != nil:
		return err
	case fi.Size() == 0: // a large file of procfs
		if _, err := io.Copy(w, io.MultiReader(bytes.NewReader(small), f)); err != nil {
			panic(http.ErrAbortHandler) // net/http's way to cut the answer: it must not look whole
		}
	default:
		http.ServeContent(w, r, f.Name(), modTime(fi), f)
	}
	return nil
}

// modTime is the zero time for files whose contents are made when they are
// read: conditional requests on those must never be answered with "unchanged".
func modTime(fi fs.FileInfo) time.Time {
	if fi.Size() == 0 {
		return time.Time{}
	}
	return fi.ModTime()
}
