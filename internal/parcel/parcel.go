// Package parcel is a sandbox as one file, to be moved to another host or kept:
// a tar archive, compressed by zstd, that ordinary tools open and check.
//
//	sandbox.json      what it is (About), first
//	memory@1048576    a piece of a file and where in it it belongs; holes have none
//	disk@0
//	SHA256SUMS        the digest of every entry before it, last
//
// A parcel may come from anybody. Everything in it is bounded, only known names
// are laid down, and nothing counts before all digests are right. That it is
// whole does not make it honest: what is in it runs behind the same walls as
// any other sandbox.
//
// parcel must not know pools or machines: it is given a folder of files.
package parcel

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"bulkhead/internal/fault"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// format goes up when what is in a parcel changes its meaning.
const format = 1

// Bounds of what may be in a parcel.
const (
	maxAbout = 4 << 20
	maxFile  = 1 << 40
	maxFiles = 16
	maxSums  = 256 << 20
	// gap is the longest hole that is written rather than left out: each piece
	// has a header of 512 bytes.
	gap = 256 << 10
	// stride is how much is written before room is asked for again.
	stride = 64 << 20
	// window is what decompressing may take of memory.
	window = 64 << 20
)

const (
	aboutName = "sandbox.json"
	sumsName  = "SHA256SUMS"
)

// nameForm is what a file may be called, pieceForm an entry of one.
var (
	nameForm  = regexp.MustCompile(`^[a-z]{1,16}$`)
	pieceForm = regexp.MustCompile(`^([a-z]{1,16})@([0-9]{1,13})$`)
)

// About says what is in a parcel.
type About struct {
	Format int       `json:"format"`
	Made   time.Time `json:"made"`
	// By is the version of what made it.
	By string `json:"by"`
	// Version is what its machine can be loaded by.
	Version map[string]string `json:"version"`
	// Sandbox is what it was, in the words of who made it.
	Sandbox json.RawMessage `json:"sandbox"`
	// Files maps each file to its size in bytes.
	Files map[string]int64 `json:"files"`
}

// Pack writes the files of a folder as a parcel. Of about, format and files are
// filled in.
func Pack(ctx context.Context, w io.Writer, about About, dir string) error {
	about.Format, about.Files = format, map[string]int64{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		about.Files[e.Name()] = info.Size()
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	p := &packer{tar: tar.NewWriter(z), at: about.Made}
	text, err := json.Marshal(about)
	if err == nil {
		err = p.add(aboutName, int64(len(text)), bytes.NewReader(text))
	}
	for _, e := range entries {
		if err == nil {
			err = p.addFile(ctx, filepath.Join(dir, e.Name()), e.Name())
		}
	}
	if err == nil {
		err = p.add(sumsName, int64(p.sums.Len()), bytes.NewReader(bytes.Clone(p.sums.Bytes())))
	}
	if err == nil {
		err = p.tar.Close()
	}
	return errors.Join(err, z.Close())
}

// packer writes entries and remembers their digests.
type packer struct {
	tar  *tar.Writer
	at   time.Time
	sums bytes.Buffer
}

func (p *packer) add(name string, size int64, content io.Reader) error {
	h := &tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: p.at, Format: tar.FormatGNU}
	if err := p.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(p.tar, sum), content, size); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	fmt.Fprintf(&p.sums, "%s  %s\n", hex.EncodeToString(sum.Sum(nil)), name) // as sha256sum(1) writes it
	return nil
}

// addFile writes what a file has between its holes.
func (p *packer) addFile(ctx context.Context, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, to, err := nextData(f, at)
		if err != nil || from == to {
			return err
		}
		if err := p.add(fmt.Sprintf("%s@%d", name, from), to-from, io.NewSectionReader(f, from, to-from)); err != nil {
			return err
		}
		at = to
	}
}

// nextData returns where the next data of a file is, short holes included; from
// and to are equal if there is no more.
func nextData(f *os.File, at int64) (from, to int64, err error) {
	fd := int(f.Fd())
	from, err = unix.Seek(fd, at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("find data: %w", err)
	}
	for to = from; ; {
		if to, err = unix.Seek(fd, to, unix.SEEK_HOLE); err != nil {
			return 0, 0, fmt.Errorf("find holes: %w", err)
		}
		next, err := unix.Seek(fd, to, unix.SEEK_DATA)
		if err != nil && !errors.Is(err, unix.ENXIO) {
			return 0, 0, fmt.Errorf("find data: %w", err)
		}
		if err != nil || next-to > gap {
			return from, to, nil
		}
		to = next
	}
}

// Parcel is one that is being opened. It belongs to one goroutine.
type Parcel struct {
	// About is what it says of itself.
	About About

	zstd  *zstd.Decoder
	tar   *tar.Reader
	room  func() error
	files map[string]*os.File
	sums  bytes.Buffer
}

// Open reads what a parcel is. The caller closes it. The error is fault.Corrupt
// for what is none, fault.Unsupported for one of another format.
func Open(r io.Reader) (_ *Parcel, err error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(window), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	p := &Parcel{zstd: z, tar: tar.NewReader(z), room: func() error { return nil }}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	h, err := p.tar.Next()
	if err != nil {
		return nil, corrupt("%w", err)
	}
	if h.Name != aboutName || h.Typeflag != tar.TypeReg || h.Size > maxAbout {
		return nil, corrupt("it does not begin with %s", aboutName)
	}
	text, err := p.read(h)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &p.About); err != nil {
		return nil, corrupt("its %s is not readable: %w", aboutName, err)
	}
	if p.About.Format != format {
		return nil, fault.New(fault.Unsupported, "it is of format %d, this release reads %d", p.About.Format, format)
	}
	return p, nil
}

// Close ends it. What was laid down stays.
func (p *Parcel) Close() { p.zstd.Close() }

// Unpack lays its files down in an empty folder, once. room is asked now and
// then whether there is still room. Nothing counts that was laid down before an
// error; that is fault.Corrupt for what is no whole parcel.
func (p *Parcel) Unpack(ctx context.Context, dir string, room func() error) (err error) {
	p.room = room
	defer func() { err = errors.Join(err, p.end()) }()
	if err := p.begin(dir); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if last, err := p.piece(); err != nil || last {
			return err
		}
	}
}

func corrupt(format string, args ...any) error {
	return fault.New(fault.Corrupt, "this is no whole archive of a sandbox: "+format, args...)
}

func (p *Parcel) read(h *tar.Header) ([]byte, error) {
	var b bytes.Buffer
	err := p.copy(&b, h)
	return b.Bytes(), err
}

func (p *Parcel) copy(w io.Writer, h *tar.Header) error {
	sum := sha256.New()
	for left := h.Size; left > 0; left -= stride {
		if err := p.room(); err != nil {
			return err
		}
		if _, err := io.CopyN(io.MultiWriter(w, sum), p.tar, min(left, stride)); err != nil {
			return corrupt("%w", err)
		}
	}
	if p.sums.Len() > maxSums {
		return corrupt("it has too many entries")
	}
	fmt.Fprintf(&p.sums, "%s  %s\n", hex.EncodeToString(sum.Sum(nil)), h.Name)
	return nil
}

// begin makes the files, all hole.
func (p *Parcel) begin(dir string) error {
	p.files = map[string]*os.File{}
	if n := len(p.About.Files); n > maxFiles {
		return corrupt("it has %d files", n)
	}
	for name, size := range p.About.Files {
		if !nameForm.MatchString(name) || size < 0 || size > maxFile {
			return corrupt("it has a file %.20q of %d bytes", name, size)
		}
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		p.files[name] = f
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	return nil
}

func (p *Parcel) end() error {
	var errs []error
	for _, f := range p.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// piece lays one down. last is the end of a parcel that is whole.
func (p *Parcel) piece() (last bool, err error) {
	h, err := p.tar.Next()
	if err != nil {
		return false, corrupt("%w", err)
	}
	if h.Typeflag != tar.TypeReg {
		return false, corrupt("%.40q is no file", h.Name)
	}
	if h.Name == sumsName {
		return true, p.check(h)
	}
	m := pieceForm.FindStringSubmatch(h.Name)
	if m == nil || p.files[m[1]] == nil {
		return false, corrupt("%.40q does not belong in it", h.Name)
	}
	at, err := strconv.ParseInt(m[2], 10, 64)
	if size := p.About.Files[m[1]]; err != nil || at > size || h.Size > size-at {
		return false, corrupt("%.40q is beyond the end of its file", h.Name)
	}
	return false, p.copy(io.NewOffsetWriter(p.files[m[1]], at), h)
}

// check compares the digests of all entries with those that the parcel says.
func (p *Parcel) check(h *tar.Header) error {
	want := slices.Clone(p.sums.Bytes())
	if h.Size != int64(len(want)) {
		return corrupt("its digests are not those of its entries")
	}
	said, err := p.read(h)
	if err != nil {
		return err
	}
	if !bytes.Equal(said, want) {
		return corrupt("its digests are not those of its entries")
	}
	return nil
}
