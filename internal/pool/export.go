package pool

import (
	"context"
	"errors"
	"fmt"
	"os"

	"bulkhead/internal/durable"
	"bulkhead/internal/fault"
	"bulkhead/internal/pool/reflink"

	"golang.org/x/sys/unix"
)

// Export copies a snapshot, which is verified first, to the folder dir outside
// of the pool, for the Import of this or another pool of this host: data is
// reflinked where possible, else copied without holes. dir appears whole or not
// at all, for root only, and durably. Exists if there is something at dir.
func (p *Pool) Export(ctx context.Context, id SnapshotID, dir string) (err error) {
	fresh := dir + ".new" // what a crash left of it is removed
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("export snapshot %s: %w", id, err), os.RemoveAll(fresh))
		}
	}()
	if _, err := p.verify(ctx, id); err != nil {
		return err
	}
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	for _, name := range append(allParts(), manifestFile) {
		if err := reflink.Copy(ctx, fresh+"/"+name, p.path(snapshotsDir, string(id), name)); err != nil {
			return err
		}
		if err := durable.Sync(fresh + "/" + name); err != nil {
			return err
		}
	}
	err = errors.Join(durable.Sync(fresh), durable.Rename(fresh, dir))
	if errors.Is(err, os.ErrExist) {
		return fault.New(fault.Exists, "there is something at %s already", dir)
	}
	return err
}

// Import makes a snapshot with a new id of a folder that Export made. Sizes
// and digests are checked, Corrupt if they differ; the signature is not, as
// another pool may have another key: what is trusted is that dir belongs to
// the caller and is closed to others, Denied if not. Exhausted if the pool has
// no room; on error nothing is left.
func (p *Pool) Import(ctx context.Context, dir string) (_ Snapshot, err error) {
	defer wrap(&err, "import snapshot from %s", dir)
	if err := checkPrivate(dir); err != nil {
		return Snapshot{}, err
	}
	parts := append(allParts(), manifestFile)
	data, err := allocated(dir, parts...)
	if errors.Is(err, os.ErrNotExist) {
		err = damaged(dir, err)
	}
	if err != nil {
		return Snapshot{}, err
	}
	done, err := p.admit(data)
	if err != nil {
		return Snapshot{}, err
	}
	defer done()
	s, err := p.Receive(ctx, func(staged string) error {
		for _, name := range parts {
			if err := p.change.copy(ctx, staged+"/"+name, dir+"/"+name); err != nil {
				return err
			}
		}
		return nil
	}, func(*Meta) {})
	if fault.Is(err, fault.Corrupt) {
		err = damaged(dir, err)
	}
	return s, err
}

func damaged(dir string, why error) error {
	return fault.New(fault.Corrupt, "%w", why).Hint("remove %s", dir)
}

// checkPrivate returns an error unless dir is a folder that only we can write
// to or look into.
func checkPrivate(dir string) error {
	var s unix.Stat_t
	if err := unix.Lstat(dir, &s); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if s.Mode&unix.S_IFMT != unix.S_IFDIR || s.Mode&0o077 != 0 || int(s.Uid) != os.Geteuid() {
		return fault.New(fault.Denied, "it is not a folder of this user that is closed to others").
			Hint("remove it, or give it owner root and mode 0700")
	}
	return nil
}

// Read calls f with the folder of a snapshot, which is verified first. f only
// reads there. A removal meanwhile is an error of f's.
func (p *Pool) Read(ctx context.Context, id SnapshotID, f func(dir string) error) error {
	if _, err := p.verify(ctx, id); err != nil {
		return err
	}
	return f(p.path(snapshotsDir, string(id)))
}

// Receive makes a snapshot of the files that fill lays down in a folder: those
// that Read shows of one, of this or of another host. Sizes and digests are
// checked like Import does, and meta may be changed before it is kept. On error
// nothing is left.
func (p *Pool) Receive(ctx context.Context, fill func(dir string) error, change func(*Meta)) (_ Snapshot, err error) {
	defer wrap(&err, "receive snapshot")
	staged, err := p.stage()
	if err != nil {
		return Snapshot{}, err
	}
	d := &Draft{p: p, id: newSnapshotID(), dir: staged}
	defer func() { err = errors.Join(err, d.discard()) }()
	if err := fill(staged); err != nil {
		return Snapshot{}, err
	}
	m, err := readManifest(staged, nil)
	if err != nil {
		return Snapshot{}, fault.New(fault.Corrupt, "manifest: %w", err)
	}
	if err := os.Remove(staged + "/" + manifestFile); err != nil { // Commit writes its own
		return Snapshot{}, err
	}
	if err := p.check(ctx, m, staged); err != nil {
		return Snapshot{}, err
	}
	change(&m.Meta)
	return d.Commit(ctx, m.Meta)
}
