package jail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"bulkhead/internal/cgroup"
	"bulkhead/internal/fault"

	"golang.org/x/sys/unix"
)

// holding is what a cage has of the host besides its process. Its lease, a
// file named after the uid, is made first and removed last: whoever finds one
// knows what to release.
type holding struct {
	// UID is the program's user and group.
	UID int `json:"uid"`
	// Dir is Cage.Dir, which tells whose it is.
	Dir string `json:"dir"`
	// Files are the host's files that the user owns meanwhile.
	Files []string `json:"files"`

	lease string
	group *cgroup.Group
}

func groupName(uid int) string { return "u" + strconv.Itoa(uid) }

// lease takes the first free uid of the range.
func (j *Jail) lease(c Cage) (*holding, error) {
	if err := os.MkdirAll(j.cfg.Leases, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of leases: %w", err)
	}
	h := &holding{Dir: c.Dir}
	for _, f := range c.Files {
		if f.Writable {
			h.Files = append(h.Files, f.Host)
		}
	}
	for uid := j.cfg.FirstUID; uid < j.cfg.FirstUID+j.cfg.UIDs; uid++ {
		h.UID, h.lease = uid, filepath.Join(j.cfg.Leases, strconv.Itoa(uid))
		err := createWhole(h.lease, h)
		if err == nil {
			h.group = j.groups.Open(groupName(uid))
			return h, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("lease uid: %w", err)
		}
	}
	return nil, fault.New(fault.Exhausted, "all %d users from %d on are taken", j.cfg.UIDs, j.cfg.FirstUID).
		Hint("remove sandboxes, or raise jail_uids")
}

// createWhole makes a file that nobody ever sees without its content. It is
// fs.ErrExist if it exists. The file has no name until it is whole (open(2),
// O_TMPFILE), so that a crash leaves nothing.
func createWhole(path string, content any) error {
	b, err := json.Marshal(content)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Dir(path), unix.O_TMPFILE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	unnamed := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if err := unix.Linkat(unix.AT_FDCWD, unnamed, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "link", Old: unnamed, New: path, Err: err}
	}
	return nil
}

// release gives back everything. It may be called again: without the lease
// there is nothing to give back, and the group of that name is somebody else's.
func (h *holding) release(ctx context.Context) error {
	held, err := readLease(h.lease)
	if errors.Is(err, fs.ErrNotExist) || err == nil && held.Dir != h.Dir {
		return nil
	}
	if err != nil {
		return err
	}
	err = errors.Join(h.group.Kill(ctx), h.group.Remove(ctx))
	for _, path := range h.Files {
		err = errors.Join(err, h.takeBack(path))
	}
	if err != nil {
		return fmt.Errorf("release cage of uid %d: %w", h.UID, err)
	}
	if err := os.Remove(h.lease); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// takeBack makes a file root's again, if it is still the one that was given.
func (h *holding) takeBack(path string) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if errors.Is(err, fs.ErrNotExist) || err == nil && int(st.Uid) != h.UID {
		return nil
	}
	return errors.Join(err, own(path, 0))
}

// releaseOf releases every cage of dir. Finding none is no error.
func (j *Jail) releaseOf(ctx context.Context, dir string) error {
	leases, err := filepath.Glob(filepath.Join(j.cfg.Leases, "[0-9]*"))
	if err != nil {
		return err
	}
	for _, path := range leases {
		h, err := readLease(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && h.Dir != dir {
			continue
		}
		if err != nil {
			return err
		}
		h.group = j.groups.Open(groupName(h.UID))
		if err := h.release(ctx); err != nil {
			return err
		}
	}
	return nil
}

func readLease(path string) (*holding, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	h := &holding{lease: path}
	if err := json.Unmarshal(b, h); err != nil {
		return nil, fmt.Errorf("read lease %s: %w", path, err)
	}
	return h, nil
}

// own makes a plain file with one name belong to a user and its group, and to
// nobody else.
func own(path string, uid int) error {
	return change(path, func(fd int, st *unix.Stat_t) error {
		if st.Nlink != 1 {
			return fault.New(fault.Corrupt, "%s has another name too", path)
		}
		return errors.Join(unix.Fchmod(fd, 0o600), unix.Fchown(fd, uid, uid))
	})
}

// show makes a plain file readable for everybody who can reach it, which is up
// to the folders that it is in.
func show(path string) error {
	return change(path, func(fd int, st *unix.Stat_t) error {
		const readable = 0o444
		if st.Mode&readable == readable {
			return nil
		}
		return unix.Fchmod(fd, st.Mode&0o777|readable)
	})
}

// change changes a plain file. A link is not followed: it may have been put
// there by whoever had the name before.
func change(path string, how func(fd int, st *unix.Stat_t) error) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fault.New(fault.Corrupt, "%s is not a plain file", path)
	}
	if err := how(fd, &st); err != nil {
		return fmt.Errorf("give %s: %w", path, err)
	}
	return nil
}
