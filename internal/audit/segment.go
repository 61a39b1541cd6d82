package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxTorn bounds what Open cuts off by itself: more than the few lines that
// can be under way at once is damage that somebody must look at.
const maxTorn = 1 << 20

// torn is what stands after the last whole line.
type torn struct {
	bytes int64
	start string // as much of it as an event holds
}

// tail is where a segment ends.
type tail struct {
	seq  uint64 // of the last whole line, 0 if there is none
	hash digest
	good int64 // size up to the end of that line
	torn torn
}

// segmentName is the file name of the segment that begins with event first.
// Names sort as numbers.
func segmentName(first uint64) string { return fmt.Sprintf("%020d.jsonl", first) }

func segmentPath(dir string, first uint64) string { return filepath.Join(dir, segmentName(first)) }

// listSegments returns the first events of a folder's segments, rising.
func listSegments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []uint64
	for _, e := range entries {
		digits, _ := strings.CutSuffix(e.Name(), ".jsonl")
		first, err := strconv.ParseUint(digits, 10, 64)
		if err == nil && first > 0 && e.Name() == segmentName(first) {
			all = append(all, first)
		}
	}
	slices.Sort(all)
	return all, nil
}

// readTail finds a segment's last whole line.
func readTail(path string) (t tail, err error) {
	s, err := openSegment(path)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, s.file.Close()) }()
	for {
		line, err := s.next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, errBadLine) {
			return t, err
		}
		e, _, hash, err := decode(line)
		if err == nil && s.whole {
			t = tail{seq: e.Seq, hash: hash, good: s.offset}
		} else if t.torn.bytes == 0 {
			t.torn.start = string(line[:min(len(line), maxValue)])
		}
		t.torn.bytes = s.offset - t.good
	}
	if t.torn.bytes > maxTorn {
		return t, corrupt("%d bytes at the end of %s are not events", t.torn.bytes, path)
	}
	return t, nil
}

// errBadLine is a line that is too long or has no end.
var errBadLine = errors.New("line is too long or has no end")

// segment reads the lines of one file.
type segment struct {
	file  *os.File
	lines *bufio.Reader
	// limit is the size up to which the file may be read; beyond it a line
	// may be under way.
	limit int64
	read  int64 // bytes taken from the file
	// offset is where the line that next returned ends; whole says that it
	// ends with a newline.
	offset int64
	whole  bool
}

func openSegment(path string) (*segment, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s := &segment{file: f, limit: math.MaxInt64}
	s.lines = bufio.NewReaderSize(s, maxLine)
	return s, nil
}

// Read implements io.Reader for the buffer of lines.
func (s *segment) Read(b []byte) (int, error) {
	b = b[:min(int64(len(b)), max(0, s.limit-s.read))]
	if len(b) == 0 {
		return 0, io.EOF
	}
	n, err := s.file.Read(b)
	s.read += int64(n)
	return n, err
}

// next returns the next line without its newline, valid until the next call.
// A line that is too long, or the rest of a file without a newline, comes
// with errBadLine; io.EOF is the end.
func (s *segment) next() ([]byte, error) {
	line, err := s.lines.ReadSlice('\n')
	s.offset += int64(len(line))
	s.whole = err == nil
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case err == io.EOF && len(line) == 0:
		return nil, io.EOF
	case err == io.EOF:
		return line, errBadLine
	case errors.Is(err, bufio.ErrBufferFull):
		return s.skipLine(line)
	}
	return nil, fmt.Errorf("read %s: %w", s.file.Name(), err)
}

// skipLine passes over the rest of a line that is too long and returns how it
// began.
func (s *segment) skipLine(start []byte) ([]byte, error) {
	start = slices.Clone(start[:maxValue])
	for {
		more, err := s.lines.ReadSlice('\n')
		s.offset += int64(len(more))
		if !errors.Is(err, bufio.ErrBufferFull) {
			return start, errBadLine
		}
	}
}
