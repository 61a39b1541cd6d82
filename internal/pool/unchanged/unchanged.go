// Package unchanged remembers what was made of a file for as long as the file
// does not change.
//
// That it has not changed is taken from its inode number, size and times: good
// against accidents, not against somebody who can write to the file system's
// device. unchanged knows nothing of what is in the files.
package unchanged

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Cache remembers a value for each file. The zero value is empty and ready; it
// is safe for concurrent use.
type Cache[T any] struct {
	// Now tells the time; nil means time.Now.
	Now func() time.Time

	mu    sync.Mutex
	known map[version]T // guarded by mu; nil at first
}

// version is a file's content as the kernel knows it.
type version struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

const (
	// settled is how long ago a file must have been changed last for its value
	// to be remembered: a second change within one tick of the kernel's clock,
	// at most 10 ms, may not show.
	settled = 20 * time.Millisecond
	// maxKnown bounds what is remembered.
	maxKnown = 4096
)

// Of returns what read makes of the file at path, now or when it was called for
// the same content before. An error of read is returned as it is, and not
// remembered. All callers share the value: none may change it.
func (c *Cache[T]) Of(path string, read func(*os.File) (T, error)) (value T, err error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return value, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if value, ok := c.recall(versionOf(s)); ok {
		return value, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return value, err
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), &s); err != nil { // it may be another by now
		return value, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	still := c.now().Sub(time.Unix(s.Ctim.Unix())) > settled
	if value, err = read(f); err == nil && still {
		c.remember(versionOf(s), value)
	}
	return value, err
}

func versionOf(s unix.Stat_t) version { return version{s.Dev, s.Ino, s.Size, s.Mtim, s.Ctim} }

func (c *Cache[T]) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

func (c *Cache[T]) recall(v version) (value T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, ok = c.known[v]
	return value, ok
}

func (c *Cache[T]) remember(v version, value T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxKnown {
		c.known = map[version]T{}
	}
	c.known[v] = value
}
