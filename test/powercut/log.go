package powercut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The log's format (Documentation/admin-guide/device-mapper/log-writes.rst and
// drivers/md/dm-log-writes.c): a sector with its head, then for each entry a
// sector that describes it and the data that it has, numbers little endian.
const (
	sector      = 512
	magic       = 0x6a736677736872
	flagFlush   = 1 << 0
	flagDiscard = 1 << 2
)

// Moment is a point in the life of a disk.
type Moment int64

// Now is the point up to which the disk has come.
func (d *Disk) Now() (Moment, error) {
	info, err := os.Stat(filepath.Join(d.dir, "log"))
	if err != nil {
		return 0, err
	}
	return Moment(info.Size()), nil
}

// entry is one thing that was done to the disk.
type entry struct {
	at, size int64 // in bytes; without a size it is a flush only
	flags    uint64
	data     int64 // where it is in the log
}

// Cut makes image, a new file, what the disk holds if its power goes at a
// moment: everything up to the last flush, and of the writes since then those
// that survive says. They are not many, and may be lost in any order.
func (d *Disk) Cut(at Moment, image string, survives func() bool) (err error) {
	log, err := os.Open(filepath.Join(d.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	entries, err := read(io.NewSectionReader(log, 0, int64(at)))
	if err != nil {
		return fmt.Errorf("read log of disk: %w", err)
	}
	content, err := os.Stat(filepath.Join(d.dir, "content"))
	if err != nil {
		return err
	}
	if err := sparse(image, content.Size()); err != nil {
		return err
	}
	out, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	flushed := 0
	for i, e := range entries {
		if e.flags&flagFlush != 0 {
			flushed = i
		}
	}
	for i, e := range entries {
		if i <= flushed || survives() {
			if err := e.replay(log, out); err != nil {
				return err
			}
		}
	}
	return nil
}

// read returns the entries that a log holds. The last one may not be whole.
func read(log *io.SectionReader) (all []entry, err error) {
	var head [sector]byte
	if _, err := log.ReadAt(head[:], 0); err != nil {
		return nil, err
	}
	if got := binary.LittleEndian.Uint64(head[:]); got != magic {
		return nil, fmt.Errorf("it begins with %#x", got)
	}
	for at := int64(sector); at+sector <= log.Size(); {
		if _, err := log.ReadAt(head[:], at); err != nil {
			return nil, err
		}
		number := func(i int) int64 { return int64(binary.LittleEndian.Uint64(head[8*i:])) }
		e := entry{at: number(0) * sector, size: number(1) * sector, flags: uint64(number(2)), data: at + sector}
		at = e.data
		if e.flags&flagDiscard == 0 {
			at += e.size
		}
		if at > log.Size() {
			break
		}
		all = append(all, e)
	}
	return all, nil
}

// replay does to out what was done to the disk.
func (e entry) replay(log io.ReaderAt, out *os.File) error {
	if e.size == 0 {
		return nil
	}
	if e.flags&flagDiscard != 0 {
		return unix.Fallocate(int(out.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, e.at, e.size)
	}
	_, err := io.Copy(io.NewOffsetWriter(out, e.at), io.NewSectionReader(log, e.data, e.size))
	return err
}
