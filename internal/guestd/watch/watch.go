// Package watch tells what happens to the files of a directory, by inotify(7),
// optionally with everything below it.
//
// inotify watches single directories and tells descriptors, not paths. So a
// Watch keeps the path of each watched directory, starts to watch those that
// appear before it tells of them, and drops those that are moved away. What is
// already in a directory that appears is told as created as well: it may have
// come too early for inotify. A file can therefore be told as created twice,
// but never not at all.
//
// Nothing is queued here but what the kernel queues (fs.inotify.max_queued_events);
// a consumer that is too slow gets ErrLost. watch knows neither users nor
// clients. A Watch belongs to one goroutine.
package watch

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/internal/guestd/fd"
	pb "bulkhead/proto/filesystem"
)

// ErrLost means that more happened than the kernel kept for a slow consumer.
var ErrLost = errors.New("events were lost")

// interest is what clients hear about. IN_ONLYDIR and IN_DONT_FOLLOW: what is
// a directory when it is looked at may be something else when it is watched.
const interest = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_DELETE | unix.IN_DELETE_SELF |
	unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_MOVE_SELF | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW

// Emit takes one event. name is relative to the watched directory, "." for
// itself. An error ends the watch and is returned by Run.
type Emit func(name string, what pb.EventType) error

// Watch watches one directory.
type Watch struct {
	root      string
	recursive bool
	file      *os.File         // the inotify instance
	dirs      map[int32]string // watch descriptor to path relative to root
}

// Open starts to watch dir, which must be a directory, and with recursive all
// directories below. Events from now on are kept for Run. The caller must
// call Run or Close.
func Open(dir string, recursive bool) (*Watch, error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("watch directory: %w", err)
	}
	instance, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch directory: %w", err)
	}
	w := &Watch{root: root, recursive: recursive, file: os.NewFile(uintptr(instance), "inotify"), dirs: map[int32]string{}}
	err = w.addOne(".", root)
	if err == nil && recursive {
		err = w.add(".", nil)
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Close ends a watch that does not run.
func (w *Watch) Close() { w.file.Close() }

// Run emits events until ctx is done, emit fails or events are lost, and
// closes the watch. The error is never nil.
func (w *Watch) Run(ctx context.Context, emit Emit) error {
	defer w.Close()
	stop := context.AfterFunc(ctx, func() {
		_ = w.file.SetReadDeadline(time.Unix(1, 0)) // fails only if it is closed already
	})
	defer stop()
	buf := make([]byte, 64<<10) // some thousand events
	for {
		n, err := w.file.Read(buf)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		if err := w.handleAll(buf[:n], emit); err != nil {
			return err
		}
	}
}

// handleAll takes apart what one read returned: struct inotify_event (wd,
// mask, cookie, length of name) and a name padded with zero bytes, repeated.
func (w *Watch) handleAll(data []byte, emit Emit) error {
	for len(data) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(data))
		mask := binary.NativeEndian.Uint32(data[4:])
		size := int(binary.NativeEndian.Uint32(data[12:]))
		data = data[unix.SizeofInotifyEvent:]
		name, _, _ := bytes.Cut(data[:size], []byte{0})
		data = data[size:]
		if err := w.handle(wd, mask, string(name), emit); err != nil {
			return err
		}
	}
	return nil
}

func (w *Watch) handle(wd int32, mask uint32, name string, emit Emit) error {
	if mask&unix.IN_Q_OVERFLOW != 0 {
		return ErrLost
	}
	dir, known := w.dirs[wd]
	switch {
	case mask&unix.IN_IGNORED != 0:
		delete(w.dirs, wd)
		return nil
	case !known, name == "" && dir != ".": // the parent tells of it too
		return nil
	}
	name = filepath.Join(dir, name)
	isDir := mask&unix.IN_ISDIR != 0
	if isDir && mask&unix.IN_MOVED_FROM != 0 {
		w.drop(name)
	}
	var found []string
	if isDir && w.recursive && mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0 {
		// Before it is told, so that nothing is missed that follows the news.
		if err := w.add(name, func(below string) { found = append(found, below) }); err != nil {
			return err
		}
	}
	for _, e := range kinds {
		if mask&e.mask != 0 {
			if err := emit(name, e.kind); err != nil {
				return err
			}
		}
	}
	for _, below := range found {
		if err := emit(below, pb.EventType_EVENT_TYPE_CREATE); err != nil {
			return err
		}
	}
	return nil
}

// kinds gives the order of events that the kernel tells as one.
var kinds = [...]struct {
	mask uint32
	kind pb.EventType
}{
	{unix.IN_CREATE | unix.IN_MOVED_TO, pb.EventType_EVENT_TYPE_CREATE},
	{unix.IN_MOVED_FROM | unix.IN_MOVE_SELF, pb.EventType_EVENT_TYPE_RENAME},
	{unix.IN_ATTRIB, pb.EventType_EVENT_TYPE_CHMOD},
	{unix.IN_MODIFY, pb.EventType_EVENT_TYPE_WRITE},
	{unix.IN_DELETE | unix.IN_DELETE_SELF, pb.EventType_EVENT_TYPE_REMOVE},
}

// add watches dir and the directories below. Everything below is given to
// found unless that is nil. What vanishes meanwhile is skipped.
func (w *Watch) add(dir string, found func(string)) error {
	top := filepath.Join(w.root, dir)
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if path == w.root {
				return fmt.Errorf("watch directory: %w", err)
			}
			return nil // gone again, or not to be read
		}
		rel, err := filepath.Rel(w.root, path)
		if err != nil {
			return fmt.Errorf("watch directory: %w", err)
		}
		if path != top && found != nil {
			found(rel)
		}
		if !d.IsDir() {
			return nil
		}
		return w.addOne(rel, path)
	})
}

func (w *Watch) addOne(rel, path string) error {
	var wd int
	err := fd.Use(w.file, func(fd int) (err error) {
		wd, err = unix.InotifyAddWatch(fd, path, interest)
		return err
	})
	if err != nil {
		if rel != "." && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)) {
			return filepath.SkipDir
		}
		// ENOSPC: fs.inotify.max_user_watches is reached (inotify_add_watch(2)).
		return fmt.Errorf("watch directory '%s': %w", path, err)
	}
	w.dirs[int32(wd)] = rel
	return nil
}

// drop stops to watch a directory that has been moved, and those below it:
// their paths are no longer known.
func (w *Watch) drop(dir string) {
	for wd, rel := range w.dirs {
		if rel == dir || strings.HasPrefix(rel, dir+"/") {
			delete(w.dirs, wd)
			_ = fd.Use(w.file, func(fd int) error { // fails only for a directory that is gone with its watch
				_, err := unix.InotifyRmWatch(fd, uint32(wd))
				return err
			})
		}
	}
}
