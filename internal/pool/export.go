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
	if err := durable.Sync(fresh); err != nil {
		return err
	}
	err = durable.Rename(fresh, dir)
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
	m, data, err := readExport(dir)
	if err != nil {
		return Snapshot{}, err
	}
	done, err := p.admit(data)
	if err != nil {
		return Snapshot{}, err
	}
	defer done()
	staged, err := p.stage()
	if err != nil {
		return Snapshot{}, err
	}
	d := &Draft{p: p, id: newSnapshotID(), dir: staged}
	defer func() { err = errors.Join(err, d.discard()) }()
	for _, name := range allParts() {
		if err := p.change.copy(ctx, staged+"/"+name, dir+"/"+name); err != nil {
			return Snapshot{}, err
		}
	}
	if err := p.check(ctx, m, staged); fault.Is(err, fault.Corrupt) {
		return Snapshot{}, damaged(dir, err)
	} else if err != nil {
		return Snapshot{}, err
	}
	return d.Commit(ctx, m.Meta)
}

// readExport returns the manifest of an exported snapshot and how many bytes
// its parts take.
func readExport(dir string) (m manifest, data int64, err error) {
	if err := checkPrivate(dir); err != nil {
		return m, 0, err
	}
	if m, err = readManifest(dir, nil); err != nil {
		return m, 0, damaged(dir, fmt.Errorf("manifest: %w", err))
	}
	var parts []string
	for _, name := range allParts() {
		parts = append(parts, dir+"/"+name)
	}
	data, err = allocated(parts...)
	if errors.Is(err, os.ErrNotExist) {
		err = damaged(dir, err)
	}
	return m, data, err
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
