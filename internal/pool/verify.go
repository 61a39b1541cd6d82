package pool

import (
	"context"
	"errors"
	"os"
)

// Verify checks that a snapshot is what was committed: the manifest's
// signature, the size of each part, and the digests of device state, kernel
// and initrd. Corrupt if not; the text names the part. The content of memory
// and disk is not checked: that would take seconds.
func (p *Pool) Verify(ctx context.Context, id SnapshotID) error {
	_, err := p.verify(ctx, id)
	return err
}

func (p *Pool) verify(ctx context.Context, id SnapshotID) (Snapshot, error) {
	m, err := p.manifest(id, readManifest)
	if err != nil {
		return Snapshot{}, err
	}
	return m.snapshot(), p.check(ctx, m, p.path(snapshotsDir, string(id)))
}

// check compares the parts in dir with those in m.
func (p *Pool) check(ctx context.Context, m manifest, dir string) error {
	for _, name := range allParts() {
		got, err := p.inspect(ctx, dir, name)
		want := m.Parts[name]
		switch {
		case errors.Is(err, os.ErrNotExist):
			return corrupt(m.ID, name, errors.New("missing"))
		case err != nil:
			return err
		case got.Size != want.Size:
			return corrupt(m.ID, name, errors.New("size differs"))
		case got.SHA256 != want.SHA256:
			return corrupt(m.ID, name, errors.New("digest differs"))
		}
	}
	return nil
}

// inspect describes the part in dir as a manifest does.
func (p *Pool) inspect(ctx context.Context, dir, name string) (part, error) {
	if err := ctx.Err(); err != nil {
		return part{}, err
	}
	path := dir + "/" + name
	info, err := os.Stat(path)
	if err != nil {
		return part{}, err
	}
	found := part{Size: info.Size()}
	if small(name) {
		found.SHA256, err = p.digests.Of(path)
	}
	return found, err
}
