// Package durable changes files so that a power cut leaves the old or the new
// state, never half of one, and so that what has returned stays.
//
// The order is always the same: sync the content, rename, sync the folder.
// durable knows nothing of what is in the files. It has no state; calls for
// the same path must not run at the same time.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// WriteFile makes path a file with the given content and mode, replacing what
// was there; on error path is the old file or the new one. It writes to path +
// ".new" first; a crash may leave that, and the next call overwrites it.
func WriteFile(path string, content []byte, mode os.FileMode) error {
	fresh := path + ".new"
	err := write(fresh, content, mode)
	if err == nil {
		err = Rename(fresh, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), removeIfThere(fresh))
	}
	return nil
}

func write(path string, content []byte, mode os.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// The mode given to open is cut by the umask and ignored for a leftover.
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

// Rename renames a file or folder, replacing a file at to, and makes that
// durable. The content of from must be synced already.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if err := Sync(filepath.Dir(to)); err != nil {
		return err
	}
	if filepath.Dir(from) == filepath.Dir(to) {
		return nil
	}
	return Sync(filepath.Dir(from))
}

// Remove removes a file or an empty folder and makes that durable. Finding
// nothing is no error.
func Remove(path string) error {
	if err := removeIfThere(path); err != nil {
		return err
	}
	return Sync(filepath.Dir(path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Sync writes a file's content, or a folder's list of names, to stable
// storage.
func Sync(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Sync()
}
