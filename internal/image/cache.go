package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"bulkhead/internal/durable"
	"bulkhead/internal/unwind"

	"golang.org/x/sys/unix"
)

// keepFor is how long a part stays in the cache after its last use.
const keepFor = 30 * 24 * time.Hour

// unfinished ends the name of a part while it is being made.
const unfinished = ".part"

// part is a folder of the cache and how to make it.
type part struct {
	kind string
	// key is a digest of all that goes into the part.
	key string
	// steps make the part, one after the other, in the same folder.
	steps []step
}

type step struct {
	name string
	do   func(context.Context, workspace) error
}

// workspace is what a step works with.
type workspace struct {
	// dir is the unfinished part.
	dir string
	// log is told each line that a program prints.
	log func(line string)
}

// cache is the folder of parts.
//
//	lock              held while parts are made or removed
//	disk-3f…/         a part; its time of change is that of its last use
//	disk-3f….part/    being made, or left by a process that was killed
type cache struct {
	dir string
}

func (c *cache) path(p part) string { return filepath.Join(c.dir, p.kind+"-"+p.key) }

// ensure makes those of parts that are not there, in their order.
func (c *cache) ensure(ctx context.Context, progress Progress, parts ...part) error {
	r := &reporter{tell: progress}
	complete := true
	for _, p := range parts {
		r.of += len(p.steps)
		complete = c.use(p) && complete
	}
	if !complete {
		if err := os.MkdirAll(c.dir, 0o700); err != nil {
			return fmt.Errorf("make image cache: %w", err)
		}
		lock, err := c.lock(ctx)
		if err != nil {
			return err
		}
		defer lock.Close()
		if err := c.sweep(); err != nil {
			return err
		}
	}
	for _, p := range parts {
		if c.use(p) {
			for _, s := range p.steps {
				r.begin(s.name)()
			}
			continue
		}
		if err := c.make(ctx, r, p); err != nil {
			return err
		}
	}
	return nil
}

// use reports whether the cache has p. If so, it stays there for keepFor.
func (c *cache) use(p part) bool {
	now := time.Now()
	return os.Chtimes(c.path(p), now, now) == nil
}

// make makes a part under the lock.
func (c *cache) make(ctx context.Context, r *reporter, p part) (err error) {
	var undo unwind.Stack
	defer undo.OnError(ctx, &err)
	w := workspace{dir: c.path(p) + unfinished, log: r.log}
	// Packages are unpacked below: others on the host must not reach the
	// set-uid programs among them, so the cache itself is 0700.
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", p.kind, err)
	}
	undo.Add("remove unfinished "+p.kind, func(context.Context) error { return os.RemoveAll(w.dir) })
	for _, s := range p.steps {
		done := r.begin(s.name)
		if err := s.do(ctx, w); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		done()
	}
	if err := syncTree(w.dir); err != nil {
		return fmt.Errorf("make %s: %w", p.kind, err)
	}
	return durable.Rename(w.dir, c.path(p))
}

// syncTree syncs the file system that holds dir: one call for the thousands
// of files of a part.
func syncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// sweep removes what killed builds left and what has long been unused. The
// lock is held, so nobody is making anything.
func (c *cache) sweep() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("sweep image cache: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() {
			continue
		}
		if !strings.HasSuffix(e.Name(), unfinished) && time.Since(info.ModTime()) < keepFor {
			continue
		}
		if err := os.RemoveAll(filepath.Join(c.dir, e.Name())); err != nil {
			return fmt.Errorf("sweep image cache: %w", err)
		}
	}
	return nil
}

// lock waits for the lock of the cache, which ends with Close or with this
// process. Programs that are run do not inherit it.
func (c *cache) lock(ctx context.Context) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of image cache: %w", err)
	}
	// flock(2) cannot be given up on when ctx ends, so ask again and again.
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock image cache: %w", err), f.Close())
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for image cache: %w", ctx.Err()), f.Close())
		}
	}
}

// reporter numbers the steps of a build and times them.
type reporter struct {
	tell    Progress
	of      int
	current Step
}

// begin tells that the next step begins; the caller calls end when it has
// ended well.
func (r *reporter) begin(name string) (end func()) {
	r.current = Step{Name: name, Number: r.current.Number + 1, Of: r.of}
	began := time.Now()
	r.send(r.current)
	return func() {
		s := r.current
		s.Done, s.Elapsed = true, time.Since(began)
		r.send(s)
	}
}

func (r *reporter) log(line string) {
	s := r.current
	s.Log = line
	r.send(s)
}

func (r *reporter) send(s Step) {
	if r.tell != nil {
		r.tell(s)
	}
}
