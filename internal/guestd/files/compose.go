package files

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"bulkhead/internal/fault"
	"bulkhead/internal/guestd/account"
)

// composition is the body of POST /files/compose.
type composition struct {
	Sources     []string `json:"source_paths"`
	Destination string   `json:"destination"`
	Username    string   `json:"username"`
}

// compose answers POST /files/compose: it joins files into one, which appears
// whole or not at all, and then removes them.
func (s *Service) compose(w http.ResponseWriter, r *http.Request) error {
	var c composition
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxMessage)).Decode(&c); err != nil {
		return fault.New(fault.Invalid, "read request: %w", err)
	}
	if len(c.Sources) == 0 || c.Destination == "" {
		return fault.New(fault.Invalid, "source_paths and destination are needed")
	}
	user, err := s.opts.Users.Of(r.Header)
	if c.Username != "" {
		user, err = s.opts.Users.Lookup(c.Username)
	}
	if err != nil {
		return err
	}
	dest, err := user.Path(c.Destination, "")
	if err != nil {
		return err
	}
	sources := make([]string, len(c.Sources))
	for i, src := range c.Sources {
		if sources[i], err = user.Path(src, ""); err != nil {
			return err
		}
		if sources[i] == dest {
			return fault.New(fault.Invalid, "path '%s' is source and destination", dest)
		}
	}
	if err := join(dest, sources, user); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, newWritten(dest))
	return nil
}

func join(dest string, sources []string, user account.User) (err error) {
	for _, src := range sources { // before anything is made
		f, _, err := openFile(src)
		if err != nil {
			return err
		}
		f.Close()
	}
	if err := makeDirs(filepath.Dir(dest), user); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(dest), ".compose-*")
	if err != nil {
		return err
	}
	defer func() {
		tmp.Close() // again on success; harmless
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	for _, src := range sources {
		if err := appendFile(tmp, src); err != nil {
			return err
		}
	}
	if err := errors.Join(tmp.Chown(int(user.UID), int(user.GID)), tmp.Chmod(0o644), tmp.Close()); err != nil {
		return fmt.Errorf("finish file: %w", err)
	}
	if err := os.Rename(tmp.Name(), dest); err != nil {
		return err
	}
	for _, src := range sources {
		_ = os.Remove(src) // the file is made; what cannot be removed stays
	}
	return nil
}

// appendFile copies inside the kernel where the file system can (copy_file_range(2)).
func appendFile(dst *os.File, src string) error {
	f, _, err := openFile(src)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(dst, f)
	return err
}
