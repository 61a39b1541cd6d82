package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"bulkhead/internal/fault"

	"golang.org/x/sys/unix"
)

// Source is what an imported machine is made of: plain files anywhere on the
// host.
type Source struct {
	Disk, Kernel, Initrd string
	// DiskBytes is the size that the disk gets, 0 for that of the file. It
	// must not be less.
	DiskBytes int64
	// MemoryBytes is the size of RAM, which is zero.
	MemoryBytes int64
}

// NewMachine makes a machine of the files of a snapshot, which is verified
// first. It copies no data. Exists if there is such a machine, Exhausted if
// there is no room for its memory; on error nothing is left.
func (p *Pool) NewMachine(ctx context.Context, id MachineID, from SnapshotID) (_ Files, err error) {
	defer wrap(&err, "make machine %s", id)
	snap, err := p.verify(ctx, from)
	if err != nil {
		return Files{}, err
	}
	done, err := p.admit(snap.MemoryBytes)
	if err != nil {
		return Files{}, err
	}
	defer done()
	return p.place(id, func(dir string) error { return p.cloneSnapshot(dir, from) })
}

// ImportMachine makes a machine of src. The files are reflinked where that is
// possible and copied without their holes where not. Exists if there is such a
// machine, Exhausted if there is no room; on error nothing is left.
func (p *Pool) ImportMachine(ctx context.Context, id MachineID, src Source) (_ Files, err error) {
	defer wrap(&err, "import machine %s", id)
	data, err := allocated("", src.Disk, src.Kernel, src.Initrd)
	if err != nil {
		return Files{}, err
	}
	done, err := p.admit(src.MemoryBytes + data)
	if err != nil {
		return Files{}, err
	}
	defer done()
	return p.place(id, func(dir string) error { return p.fill(ctx, FilesIn(dir), src) })
}

func (p *Pool) fill(ctx context.Context, f Files, src Source) error {
	disk, err := os.Stat(src.Disk)
	if err != nil {
		return err
	}
	if src.DiskBytes != 0 && src.DiskBytes < disk.Size() {
		return fault.New(fault.Invalid, "disk of %d MiB is too small for an image of %d MiB",
			src.DiskBytes>>20, disk.Size()>>20)
	}
	memory, err := p.change.create(f.Memory, src.MemoryBytes)
	if err != nil {
		return err
	}
	if err := memory.Close(); err != nil {
		return err
	}
	for _, c := range [][2]string{{f.Disk, src.Disk}, {f.Kernel, src.Kernel}, {f.Initrd, src.Initrd}} {
		if err := p.change.copy(ctx, c[0], c[1]); err != nil {
			return err
		}
	}
	return p.change.truncate(f.Disk, max(src.DiskBytes, disk.Size()))
}

// place makes a machine with what fill puts into an empty folder.
func (p *Pool) place(id MachineID, fill func(dir string) error) (_ Files, err error) {
	if err := checkID("machine", string(id)); err != nil {
		return Files{}, err
	}
	dir, err := p.stage()
	if err != nil {
		return Files{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.discard(dir))
		}
	}()
	if err := fill(dir); err != nil {
		return Files{}, err
	}
	files := FilesIn(p.path(machinesDir, string(id)))
	err = p.change.rename(dir, files.Dir)
	if errors.Is(err, os.ErrExist) {
		err = fault.New(fault.Exists, "there is a machine %s already", id)
	}
	return files, err
}

// cloneSnapshot reflinks a snapshot's files into dir.
func (p *Pool) cloneSnapshot(dir string, from SnapshotID) error {
	for _, part := range allParts() {
		if err := p.change.clone(dir+"/"+part, p.path(snapshotsDir, string(from), part)); err != nil {
			return err
		}
	}
	return nil
}

// Machine returns a machine's files, NotFound if there is no such machine.
func (p *Pool) Machine(id MachineID) (Files, error) {
	dir, err := p.folder(machinesDir, "machine", string(id))
	if err != nil {
		return Files{}, err
	}
	return FilesIn(dir), nil
}

// Machines lists the machines, in order of their ids.
func (p *Pool) Machines() (ids []MachineID, err error) {
	names, err := p.names(machinesDir)
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	for _, n := range names {
		ids = append(ids, MachineID(n))
	}
	return ids, nil
}

// RemoveMachine removes a machine; its space is free moments later. WrongState
// if a VMM has its disk locked; finding no machine is no error.
func (p *Pool) RemoveMachine(_ context.Context, id MachineID) (err error) {
	defer wrap(&err, "remove machine %s", id)
	files, err := p.Machine(id)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := checkUnused(files.Disk); err != nil {
		return err
	}
	return p.discard(files.Dir)
}

// Rollback replaces the machine's files by those of a snapshot, which is
// verified first. It copies no data, needs no free space to speak of, and
// takes milliseconds; the old files are removed in the background. The VMM
// must not run: WrongState if it has the disk locked. On error the machine is
// as it was.
func (p *Pool) Rollback(ctx context.Context, id MachineID, to SnapshotID) (_ Files, err error) {
	defer wrap(&err, "roll back machine %s", id)
	files, err := p.Machine(id)
	if err != nil {
		return Files{}, err
	}
	if _, err := p.verify(ctx, to); err != nil {
		return Files{}, err
	}
	if err := checkUnused(files.Disk); err != nil {
		return Files{}, err
	}
	dir, err := p.stage()
	if err != nil {
		return Files{}, err
	}
	err = p.cloneSnapshot(dir, to)
	if err == nil {
		err = p.change.exchange(dir, files.Dir)
	}
	if err != nil {
		return Files{}, errors.Join(err, p.discard(dir))
	}
	p.removals.Go(func() { // what dir holds now is the past
		if err := p.discard(dir); err != nil {
			p.log.WarnContext(ctx, "old files stay until the next start", "err", err)
		}
	})
	return files, nil
}

// checkUnused returns an error if somebody holds a lock on the file at path,
// as a VMM does on its disk. A file that does not exist is not used.
func checkUnused(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return fmt.Errorf("query lock of %s: %w", path, err)
	}
	if lock.Type != unix.F_UNLCK {
		return fault.New(fault.WrongState, "its disk is in use")
	}
	return nil
}

// A flush is repeated, as the VMM goes on writing while it lasts. Each round
// has less to do than the one before (measured: 250, 45, 12, 5 ms), and the
// last one takes as long as a reflink would have to wait for dirty pages.
const (
	flushRounds = 8
	flushEnough = 5 * time.Millisecond
)

// Flush writes the dirty pages of a machine's memory and disk back while its
// VMM runs, until little is dirty. It makes the reflinks of a Draft fast and
// nothing durable. It may run beside any other operation.
func (p *Pool) Flush(ctx context.Context, id MachineID) (err error) {
	defer wrap(&err, "flush machine %s", id)
	files, err := p.Machine(id)
	if err != nil {
		return err
	}
	for range flushRounds {
		began := time.Now()
		for _, path := range []string{files.Memory, files.Disk} {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := writeBack(path); err != nil {
				return err
			}
		}
		if time.Since(began) < flushEnough {
			break
		}
	}
	return nil
}

// writeBack is fdatasync(2) without its flush of the log and of the device,
// for which the VMM's own writes would have to wait, too.
func writeBack(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	if err := unix.SyncFileRange(int(f.Fd()), 0, 0, all); err != nil {
		return fmt.Errorf("write back %s: %w", path, err)
	}
	return nil
}
