package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"bulkhead/internal/fault"
	"bulkhead/internal/guestd/account"
)

// maxParts bounds the files of one upload, and so its answer.
const maxParts = 10_000

// written is one uploaded file in the answer.
type written struct {
	Path     string            `json:"path"`
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

func newWritten(path string) written {
	return written{Path: path, Name: filepath.Base(path), Type: "file", Metadata: readMetadata(path)}
}

// target is what all files of one upload have in common.
type target struct {
	user account.User
	path string // of the query; empty if parts name themselves
	meta map[string]string
}

// upload answers POST /files: one file as the body itself, or several as parts
// of a form. Files are written in place, so links, watchers and open
// descriptors keep meaning the same file. When an upload fails, what it has
// made is removed again; what it has overwritten stays cut off.
func (s *Service) upload(w http.ResponseWriter, r *http.Request) error {
	user, err := s.userOf(r)
	if err != nil {
		return err
	}
	meta, err := metadataOf(r.Header)
	if err != nil {
		return err
	}
	t := &target{user: user, path: r.URL.Query().Get("path"), meta: meta}
	body, err := decoded(r)
	if err != nil {
		return err
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var done []written
	switch {
	case err == nil && kind == "application/octet-stream":
		done, err = t.putBody(body)
	case err == nil && strings.HasPrefix(kind, "multipart/") && params["boundary"] != "":
		done, err = t.putParts(multipart.NewReader(body, params["boundary"]))
	default:
		err = fault.New(fault.Invalid, "content type '%s' is not supported: send multipart/form-data or application/octet-stream",
			r.Header.Get("Content-Type"))
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, done)
	return nil
}

func (t *target) putBody(body io.Reader) ([]written, error) {
	if t.path == "" {
		return nil, fault.New(fault.Invalid, "query parameter path is missing")
	}
	path, err := t.user.Path(t.path, "")
	if err != nil {
		return nil, err
	}
	if err := t.put(path, body); err != nil {
		return nil, err
	}
	return []written{newWritten(path)}, nil
}

// putParts writes the parts named "file" of a form and skips the others.
func (t *target) putParts(form *multipart.Reader) ([]written, error) {
	done := []written{}
	for {
		part, err := form.NextPart()
		if err == io.EOF { //nolint:errorlint // a wrapped one means that the form is cut off
			return done, nil
		}
		if err != nil {
			return nil, fault.New(fault.Invalid, "read form: %w", err)
		}
		if part.FormName() != "file" {
			continue
		}
		if len(done) == maxParts {
			return nil, fault.New(fault.Invalid, "form has more than %d files", maxParts)
		}
		path, err := t.partPath(part)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(done, func(w written) bool { return w.Path == path }) {
			return nil, fault.New(fault.Invalid, "path '%s' is given twice: only its first file was written", path)
		}
		if err := t.put(path, part); err != nil {
			return nil, err
		}
		done = append(done, newWritten(path))
	}
}

func (t *target) partPath(part *multipart.Part) (string, error) {
	if t.path != "" {
		return t.user.Path(t.path, "")
	}
	name, err := FileName(part.Header.Get("Content-Disposition"))
	if err != nil {
		return "", err
	}
	return t.user.Path(name, "")
}

// FileName returns the file name of a part's Content-Disposition, directories
// included, which multipart.Part.FileName would cut off. The error is of kind
// invalid: there is none.
func FileName(disposition string) (string, error) {
	_, params, err := mime.ParseMediaType(disposition)
	if err != nil {
		return "", fault.New(fault.Invalid, "read content disposition: %w", err)
	}
	name := params["filename"]
	if name == "" {
		return "", fault.New(fault.Invalid, "part has no filename, and the query no path")
	}
	// How browsers and SDKs put into quotes what would end them (WHATWG HTML,
	// "Multipart form data").
	return strings.NewReplacer("%22", `"`, "%0D", "\r", "%0A", "\n").Replace(name), nil
}

// put writes one file: 0644 and owned by the user if it is new, with the
// upload's metadata and no other.
func (t *target) put(path string, src io.Reader) (err error) {
	if err := makeDirs(filepath.Dir(path), t.user); err != nil {
		return err
	}
	_, statErr := os.Stat(path)
	isNew := errors.Is(statErr, fs.ErrNotExist)
	// O_NONBLOCK: opening a FIFO must not wait for its reader.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NONBLOCK, 0o644)
	if errors.Is(err, syscall.EISDIR) {
		return fault.New(fault.Invalid, "path '%s' is a directory", path)
	}
	if err != nil && !errors.Is(err, syscall.ENXIO) {
		return err
	}
	if err != nil || !isRegular(f) {
		f.Close()
		return fault.New(fault.Invalid, "path '%s' is not a regular file", path)
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil && isNew {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := f.Chown(int(t.user.UID), int(t.user.GID)); err != nil {
		return err
	}
	if _, err := io.Copy(f, src); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return writeMetadata(f, t.meta)
}

func isRegular(f *os.File) bool {
	fi, err := f.Stat()
	return err == nil && fi.Mode().IsRegular()
}
