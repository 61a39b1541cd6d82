// Package console copies what a guest wrote to its console, from files that a
// VMM writes, renames and empties while they are read.
//
// console must not know which sandbox it is, nor who reads.
package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"syscall"
	"time"
)

// poll is how often a followed console is looked at. A poll is one fstat and
// one read; what it costs does not depend on how much is written.
const poll = 100 * time.Millisecond

// burst bounds what one poll copies, so that a guest that writes without end
// cannot keep the copying from noticing that it should stop.
const burst = 4 << 20

// Console copies a file that a VMM writes and renames to path.1 when it has
// grown too large.
type Console struct {
	path string
	out  io.Writer
	file *logFile // what is copied from; nil while there is none
}

// New returns one that copies the file at path to out.
func New(path string, out io.Writer) *Console { return &Console{path: path, out: out} }

// Close closes what is open.
func (c *Console) Close() {
	c.file.close()
	c.file = nil
}

// CopyTail copies the last bytes of what there is, or all if tail is
// negative, and leaves the newest file open behind them.
func (c *Console) CopyTail(tail int64) (err error) {
	// In this order: a rename in between makes both the same file.
	if c.file, err = open(c.path); err != nil {
		return err
	}
	older, err := open(c.path + ".1")
	if err != nil {
		return err
	}
	defer older.close()
	if older != nil && c.file.is(older.info) {
		older.close()
		older = nil
	}
	skip := int64(0)
	if tail >= 0 {
		skip = max(0, older.size()+c.file.size()-tail)
	}
	if err := c.copySection(older, skip); err != nil {
		return err
	}
	return c.copySection(c.file, max(0, skip-older.size()))
}

// copySection copies what was in the file when it was opened, from a place on.
func (c *Console) copySection(f *logFile, from int64) error {
	if f == nil || from >= f.size() {
		return f.seek(f.size())
	}
	if err := f.seek(from); err != nil {
		return err
	}
	return c.copy(f, f.size()-from)
}

// copy copies what comes next in the file, at most n bytes.
func (c *Console) copy(f *logFile, n int64) error {
	_, err := io.Copy(c.out, io.LimitReader(f, n))
	return err
}

// Follow copies what is written from now on, until ctx ends or nothing is
// left to follow.
func (c *Console) Follow(ctx context.Context, exists func() bool) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if c.file != nil {
			if err := c.copy(c.file, burst); err != nil {
				return err
			}
		}
		if err := c.flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := c.turn(); err != nil {
			return err
		}
		if c.file == nil && !exists() {
			return nil
		}
	}
}

// flush has a client see what was copied.
func (c *Console) flush() error {
	if w, ok := c.out.(http.ResponseWriter); ok {
		return http.NewResponseController(w).Flush()
	}
	return nil
}

// turn turns to the file that is now at path, if it is another one. A file
// that was emptied is read from its start.
func (c *Console) turn() error {
	fi, err := os.Lstat(c.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if c.file != nil {
		if err == nil && c.file.is(fi) {
			return c.file.rewindIfBeyond(fi.Size())
		}
		// The last bytes came after the last look and before the rename.
		if err := c.copy(c.file, math.MaxInt64); err != nil {
			return err
		}
		c.Close()
	}
	c.file, err = open(c.path)
	return err
}

// logFile is an open file and what it was when it was opened. A nil one
// is empty.
type logFile struct {
	*os.File
	info fs.FileInfo
}

// open opens a file that the VMM may have replaced by anything: it
// follows no link and does not wait for a pipe. It returns nil if there is
// no file.
func open(path string) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open console: %w", err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("open console: %s is not a file", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &logFile{f, fi}, nil
}

func (f *logFile) close() {
	if f != nil {
		_ = f.Close() // only read from
	}
}

func (f *logFile) is(fi fs.FileInfo) bool { return f != nil && os.SameFile(f.info, fi) }

func (f *logFile) size() int64 {
	if f == nil {
		return 0
	}
	return f.info.Size()
}

func (f *logFile) seek(to int64) error {
	if f == nil {
		return nil
	}
	_, err := f.Seek(to, io.SeekStart)
	return err
}

func (f *logFile) rewindIfBeyond(size int64) error {
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil || at <= size {
		return err
	}
	return f.seek(0)
}
