package pool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool/reflink"
)

// Snapshot is one moment of a whole machine.
type Snapshot struct {
	ID SnapshotID
	Meta
	// MemoryBytes and DiskBytes are sizes as the guest sees them.
	MemoryBytes, DiskBytes int64
	// Damage says what is wrong with the manifest. If it is not empty, only ID
	// is set, and nothing can be made of the snapshot.
	Damage string
}

func (m manifest) snapshot() Snapshot {
	meta := m.Meta
	meta.Version, meta.Labels = maps.Clone(meta.Version), maps.Clone(meta.Labels) // m may be shared
	return Snapshot{ID: m.ID, Meta: meta, MemoryBytes: m.Parts[memoryFile].Size, DiskBytes: m.Parts[diskFile].Size}
}

// Snapshot returns what is known about a snapshot: NotFound if there is none,
// Corrupt if its manifest does not tell.
func (p *Pool) Snapshot(id SnapshotID) (Snapshot, error) {
	m, err := p.manifest(id, p.knownManifest)
	if err != nil {
		return Snapshot{}, err
	}
	return m.snapshot(), nil
}

// Snapshots lists all snapshots, the oldest first, damaged ones included.
func (p *Pool) Snapshots() ([]Snapshot, error) {
	ids, err := p.names(snapshotsDir)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var all []Snapshot
	for _, id := range ids {
		s, err := p.Snapshot(SnapshotID(id))
		switch {
		case fault.Is(err, fault.NotFound): // removed since
			continue
		case fault.Is(err, fault.Corrupt):
			s = Snapshot{ID: SnapshotID(id), Damage: err.Error()}
		case err != nil:
			return nil, fmt.Errorf("list snapshots: %w", err)
		}
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b Snapshot) int { return a.Created.Compare(b.Created) })
	return all, nil
}

// knownManifest is readManifest for one that may have been read before.
func (p *Pool) knownManifest(dir string, key []byte) (manifest, error) {
	m, err := p.manifests.Of(dir+"/"+manifestFile, func(f *os.File) (manifest, error) { return decode(f, key) })
	return m, missing(err)
}

// manifest returns the signed manifest of a snapshot, by readManifest or
// what is like it.
func (p *Pool) manifest(id SnapshotID, read func(dir string, key []byte) (manifest, error)) (manifest, error) {
	dir, err := p.folder(snapshotsDir, "snapshot", string(id))
	if err != nil {
		return manifest{}, err
	}
	m, err := read(dir, p.key)
	if err == nil && m.ID != id {
		err = fmt.Errorf("it is that of snapshot %s", m.ID)
	}
	if err != nil {
		return manifest{}, corrupt(id, manifestFile, err)
	}
	return m, nil
}

func corrupt(id SnapshotID, part string, why error) error {
	return fault.New(fault.Corrupt, "snapshot %s: %s: %w", id, partName(part), why).
		Hint("use another snapshot, and remove this one")
}

// Own returns how many bytes only this snapshot holds: what removing it alone
// would free. It reads the extents of its files, but not without bound
// (reflink.Own).
func (p *Pool) Own(ctx context.Context, id SnapshotID) (sum int64, err error) {
	defer wrap(&err, "measure snapshot %s", id)
	dir, err := p.folder(snapshotsDir, "snapshot", string(id))
	if err != nil {
		return 0, err
	}
	for _, part := range append(allParts(), manifestFile) {
		own, err := reflink.Own(ctx, dir+"/"+part)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
		sum += own
	}
	return sum, nil
}

// RemoveSnapshot removes a snapshot, damaged or not; what only it held is free
// moments later. Machines and snapshots made from it do not need it. Finding no
// snapshot is no error.
func (p *Pool) RemoveSnapshot(_ context.Context, id SnapshotID) (err error) {
	defer wrap(&err, "remove snapshot %s", id)
	dir, err := p.folder(snapshotsDir, "snapshot", string(id))
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.discard(dir)
}
