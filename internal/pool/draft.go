package pool

import (
	"context"
	"errors"
	"os"
)

// Draft is a snapshot that is being taken. It belongs to one goroutine.
type Draft struct {
	p     *Pool
	id    SnapshotID
	from  Files
	dir   string // where it is: in staging, in snapshots once renamed
	state *os.File
	done  bool // committed or discarded
}

// Begin prepares a snapshot of a machine, whose VMM goes on. Exhausted, before
// any work, if the pool could not give each machine all of its memory anew:
// after a snapshot none of it is a machine's own any more.
//
// The caller must Discard the draft; after Commit that does nothing.
func (p *Pool) Begin(_ context.Context, id MachineID) (_ *Draft, err error) {
	defer wrap(&err, "snapshot machine %s", id)
	files, err := p.Machine(id)
	if err != nil {
		return nil, err
	}
	done, err := p.admit(0)
	if err != nil {
		return nil, err
	}
	done()
	dir, err := p.stage()
	if err != nil {
		return nil, err
	}
	d := &Draft{p: p, id: newSnapshotID(), from: files, dir: dir}
	if err := d.prepare(); err != nil {
		return nil, errors.Join(err, d.discard())
	}
	return d, nil
}

// prepare does what need not wait for the VMM to stop.
func (d *Draft) prepare() (err error) {
	to := FilesIn(d.dir)
	if d.state, err = d.p.change.create(to.State, 0); err != nil {
		return err
	}
	if err := d.p.change.clone(to.Kernel, d.from.Kernel); err != nil {
		return err
	}
	return d.p.change.clone(to.Initrd, d.from.Initrd)
}

// ID returns the id that the snapshot will have.
func (d *Draft) ID() SnapshotID { return d.id }

// State returns the empty file that the device state is to be written to. The
// draft owns it and closes it.
func (d *Draft) State() *os.File { return d.state }

// Clone takes memory and disk as they are now. The VMM must be stopped, with
// its disk queue flushed to the file, from before State was written until
// Clone returns. Nothing is synced. It takes 3 µs or more per extent: below
// 1 ms with the 30 to 60 extents of a guest that was flushed before, but 70 ms
// after a guest wrote 12,800 pages in random order. To be called once.
func (d *Draft) Clone(context.Context) (err error) {
	defer wrap(&err, "snapshot machine files in %s", d.from.Dir)
	to := FilesIn(d.dir)
	if err := d.p.change.clone(to.Memory, d.from.Memory); err != nil {
		return err
	}
	return d.p.change.clone(to.Disk, d.from.Disk)
}

// Commit makes the draft a snapshot: when it returns, a power cut does not
// lose it. The VMM may have gone on. On error there is no snapshot once the
// draft is discarded.
func (d *Draft) Commit(ctx context.Context, meta Meta) (_ Snapshot, err error) {
	defer wrap(&err, "commit snapshot %s", d.id)
	m, err := d.p.seal(ctx, d.id, d.dir, meta)
	if err != nil {
		return Snapshot{}, err
	}
	place := d.p.path(snapshotsDir, string(d.id))
	if err := d.p.change.rename(d.dir, place); err != nil {
		return Snapshot{}, err
	}
	d.dir = place
	if err := d.p.change.sync(d.p.path(snapshotsDir)); err != nil {
		return Snapshot{}, err
	}
	d.done = true
	d.state.Close() // synced already
	return m.snapshot(), nil
}

// seal makes a staged folder with all parts of a snapshot durable and writes
// its manifest, so that nothing is left to do but to rename it.
func (p *Pool) seal(ctx context.Context, id SnapshotID, dir string, meta Meta) (manifest, error) {
	m := manifest{Format: manifestFormat, ID: id, Meta: meta, Parts: map[string]part{}}
	for _, name := range allParts() {
		if err := p.change.sync(dir + "/" + name); err != nil {
			return m, err
		}
		found, err := p.inspect(ctx, dir, name)
		if err != nil {
			return m, err
		}
		m.Parts[name] = found
	}
	file, err := m.encode(p.key)
	if err != nil {
		return m, err
	}
	if err := p.change.write(dir+"/"+manifestFile, file); err != nil {
		return m, err
	}
	if err := p.change.sync(dir + "/" + manifestFile); err != nil {
		return m, err
	}
	return m, p.change.sync(dir)
}

// Discard removes the draft unless it has been committed. It can be repeated.
func (d *Draft) Discard(context.Context) (err error) {
	defer wrap(&err, "discard snapshot %s", d.id)
	return d.discard()
}

func (d *Draft) discard() error {
	if d.done {
		return nil
	}
	d.state.Close() // its content does not matter any more
	if err := d.p.discard(d.dir); err != nil {
		return err
	}
	d.done = true
	return nil
}
