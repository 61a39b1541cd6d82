package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"bulkhead/internal/fault"
)

// Report says what a whole log holds.
type Report struct {
	// First and Last are event numbers, 0 for an empty log. First is above 1
	// if older segments were moved away.
	First, Last uint64
	// Hash is that of the last line, in hex; compare it with a Head that was
	// kept elsewhere.
	Hash string
}

// BrokenError is the first line of a log that is not as it was written.
type BrokenError struct {
	// Segment is the name of the file, Line counts from 1 in it.
	Segment string
	Line    int
	Reason  string
}

// Error names the line and what is wrong with it.
func (e *BrokenError) Error() string {
	return fmt.Sprintf("%s line %d: %s", e.Segment, e.Line, e.Reason)
}

// Verify checks the log in a folder from its first line to its last. The
// error is of kind fault.Corrupt and holds a *BrokenError if a line is broken.
// The log should not be open: a line that is being written looks torn.
func Verify(ctx context.Context, dir string) (Report, error) {
	return verify(ctx, dir, end{seq: math.MaxUint64})
}

// Verify is the same for a log in use, up to the event that is last when it
// begins; it also finds out if the end is missing.
func (l *Log) Verify(ctx context.Context) (Report, error) {
	l.mu.Lock()
	end := l.end
	l.mu.Unlock()
	r, err := verify(ctx, l.opts.Dir, end)
	if err == nil && (r.Last != end.seq || r.Hash != end.hash.String()) {
		err = corrupt("verify audit log: it ends with event %d, event %d was written", r.Last, end.seq)
	}
	return r, err
}

func verify(ctx context.Context, dir string, end end) (Report, error) {
	segments, err := listSegments(dir)
	if err != nil {
		return Report{}, fmt.Errorf("verify audit log: %w", err)
	}
	v := verifier{end: end}
	for _, first := range segments {
		if first > end.seq {
			break
		}
		err := v.segment(ctx, dir, first)
		var broken *BrokenError
		if errors.As(err, &broken) {
			return v.report(), fault.New(fault.Corrupt, "verify audit log: %w", broken)
		}
		if err != nil {
			return v.report(), fmt.Errorf("verify audit log: %w", err)
		}
	}
	return v.report(), nil
}

// verifier walks the chain.
type verifier struct {
	end         end
	first, last uint64
	hash        digest
}

func (v *verifier) report() Report {
	return Report{First: v.first, Last: v.last, Hash: v.hash.String()}
}

func (v *verifier) segment(ctx context.Context, dir string, first uint64) (err error) {
	if v.last > 0 && first != v.last+1 {
		return &BrokenError{segmentName(first), 1, fmt.Sprintf("event %d where %d is due", first, v.last+1)}
	}
	s, err := openSegment(segmentPath(dir, first))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.file.Close()) }()
	if first == v.end.segment {
		s.limit = v.end.size
	}
	for n := 1; v.last < v.end.seq; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := s.next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = v.line(line, first)
		}
		if err != nil {
			return &BrokenError{Segment: segmentName(first), Line: n, Reason: err.Error()}
		}
	}
	return nil
}

// line checks the next line against the one before it. The log's very first
// line begins at what its file's name says.
func (v *verifier) line(line []byte, first uint64) error {
	e, prev, hash, err := decode(line)
	if err != nil {
		return err
	}
	want := v.last + 1
	if v.last == 0 {
		want = first
	}
	switch {
	case e.Seq != want:
		return fmt.Errorf("event %d where %d is due", e.Seq, want)
	case prev != v.hash && (v.last > 0 || first == 1):
		return fmt.Errorf("event %d does not follow the line before it", e.Seq)
	}
	if v.last == 0 {
		v.first = e.Seq
	}
	v.last, v.hash = e.Seq, hash
	return nil
}
