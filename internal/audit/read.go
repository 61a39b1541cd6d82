package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"time"
)

// Query says which events to read.
type Query struct {
	// Since leaves out events up to this number; 0 leaves out none.
	Since uint64
	// SandboxID leaves out events of others, unless it is empty.
	SandboxID string
	// Type leaves out events of other types, unless it is empty: "egress" is
	// every type that is it or begins with "egress.".
	Type string
	// After leaves out events up to this time.
	After time.Time
	// Follow waits for further events after the last one.
	Follow bool
}

// Read returns the events that fit q, in order. It ends after the last event
// or, when it follows, with the log's Close; it ends early with an error: that
// of ctx, or a fault.Corrupt error that names the line which cannot be read.
// It may fall behind as far as it likes.
func (l *Log) Read(ctx context.Context, q Query) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := l.read(ctx, q, yield); err != nil {
			yield(Event{}, err)
		}
	}
}

func (q Query) fits(e Event) bool {
	return (q.SandboxID == "" || e.SandboxID == q.SandboxID) &&
		(q.Type == "" || e.Type == q.Type || strings.HasPrefix(e.Type, q.Type+".")) &&
		(q.After.IsZero() || e.Time.After(q.After))
}

// errStopped says that the reader wants no more.
var errStopped = errors.New("stopped")

func (l *Log) read(ctx context.Context, q Query, yield func(Event, error) bool) (err error) {
	c := cursor{dir: l.opts.Dir, last: q.Since}
	defer func() { err = errors.Join(err, c.close()) }()
	give := func(e Event) error {
		if !q.fits(e) {
			return ctx.Err()
		}
		if !yield(e, nil) {
			return errStopped
		}
		return ctx.Err()
	}
	for {
		l.mu.Lock()
		end, grown, closed := l.end, l.grown, errors.Is(l.broken, ErrClosed)
		l.mu.Unlock()
		err := c.advance(end, give)
		if err == errStopped {
			return nil
		}
		if err != nil || !q.Follow || closed {
			return err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cursor is a place in a log between two events.
type cursor struct {
	dir   string
	last  uint64   // event before the cursor
	first uint64   // of seg
	seg   *segment // nil before the first event
}

func (c *cursor) close() error {
	if c.seg == nil {
		return nil
	}
	err := c.seg.file.Close()
	c.seg = nil
	return err
}

// advance gives every event after the cursor up to end.
func (c *cursor) advance(end end, give func(Event) error) error {
	for c.last < end.seq {
		if c.seg == nil {
			if err := c.seek(); err != nil {
				return fmt.Errorf("read audit log: %w", err)
			}
		}
		c.seg.limit = math.MaxInt64
		if c.first == end.segment {
			c.seg.limit = end.size
		}
		e, err := c.next()
		if err == io.EOF {
			if err := c.close(); err != nil {
				return fmt.Errorf("read audit log: %w", err)
			}
			continue
		}
		if err != nil {
			return err
		}
		// After a seek, the segment's earlier events come by.
		if e.Seq <= c.last {
			continue
		}
		c.last = e.Seq
		if err := give(e); err != nil {
			return err
		}
	}
	return nil
}

// seek opens the segment that holds the event after the cursor. If that was
// moved away, the cursor moves on to the oldest there is.
func (c *cursor) seek() error {
	segments, err := listSegments(c.dir)
	if err != nil {
		return err
	}
	i, found := slices.BinarySearch(segments, c.last+1)
	if !found {
		i = max(0, i-1)
	}
	if len(segments) == 0 || segments[i] == c.first {
		return corrupt("event %d is missing", c.last+1)
	}
	c.seg, err = openSegment(segmentPath(c.dir, segments[i]))
	c.first = segments[i]
	c.last = max(c.last, c.first-1)
	return err
}

// next reads one event, checked by itself and by its number.
func (c *cursor) next() (Event, error) {
	line, err := c.seg.next()
	if err == io.EOF {
		return Event{}, io.EOF
	}
	if err != nil && !errors.Is(err, errBadLine) {
		return Event{}, err
	}
	e, _, _, err := decode(line)
	if err == nil && e.Seq > c.last+1 {
		err = fmt.Errorf("event %d is missing", c.last+1)
	}
	if err != nil {
		return Event{}, corrupt("audit log after event %d in %s: %w", c.last, segmentName(c.first), err)
	}
	return e, nil
}
