// Package audit is the record of everything that happened: one line of JSON
// per event, only ever appended, each line bound to the one before it by its
// hash.
//
//	{"seq":7,"time":"…","type":"sandbox.rollback","sandboxID":"i4f…",
//	 "fields":{…},"prev":"<hash of line 6>","hash":"<hash of all before this>"}
//
// The chain shows every later change, loss or insertion in the middle of the
// log (Verify). It cannot show that the end was cut off, nor that all of it
// was written anew by somebody with root on the host: for that, keep a copy
// of Head elsewhere.
//
// Lines are kept in segments, files named after their first event. A new one
// begins at 64 MiB, and the oldest goes when there are more than 16: the log is
// bounded, and what is left of it is a chain still. Who wants to keep all moves
// segments away in time, oldest first, all but the newest.
//
// An event is on stable storage when Append returns: events are few (a life
// of a sandbox has tens), one fdatasync costs 0.1 ms on the reference machine,
// and appends that come together share one. What a power cut leaves half
// written at the end is cut off by Open, and that is an event too.
//
// Readers follow the files, not the writer, so a slow reader costs nobody
// anything and misses nothing.
//
// audit must not know what the events mean, nor who reads them. A Log is safe
// for concurrent use; one process at a time has a folder open. Lock order:
// syncing before mu.
package audit

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"bulkhead/internal/durable"
	"bulkhead/internal/fault"
)

// segmentBytes is where a segment ends: small enough to be read and checked
// in under a second.
const segmentBytes = 64 << 20

// segmentsKept bounds a log to 1 GiB, some three million events.
const segmentsKept = 16

// ErrClosed is what Append returns after Close.
var ErrClosed = errors.New("audit log is closed")

// Options say where a log is.
type Options struct {
	// Dir is the folder of the segments. Open makes it (0700).
	Dir string
	// Clock is the host's time.
	Clock func() time.Time
	// SegmentBytes is the size at which a segment ends; 0 means 64 MiB.
	SegmentBytes int64
	// Segments is how many are kept, the oldest go first; 0 means 16. What is
	// left is a chain still.
	Segments int
}

// Log is an open audit log.
type Log struct {
	opts Options

	syncing sync.Mutex // held while the file is synced, so that others wait

	mu     sync.Mutex
	file   *os.File // newest segment; nil before the first event; guarded by mu
	end    end      // guarded by mu
	synced uint64   // last event on stable storage; guarded by mu
	// broken is why nothing can be appended any more; guarded by mu.
	broken error
	// grown is closed, and replaced, by every append; guarded by mu.
	grown chan struct{}
}

// end is where a log ends.
type end struct {
	seq  uint64 // of the last event, 0 if there is none
	hash digest // of the last line
	// segment is the first event of the newest segment, 0 if there is none;
	// size is that segment's size in bytes.
	segment uint64
	size    int64
}

// Open opens the log in a folder. A torn end is cut off, and an event of type
// "audit.cut" says how much there was and how it began. Damage elsewhere is
// left for Verify to find. It returns a fault.Corrupt error if it cannot find
// out where the log ends.
func Open(opts Options) (_ *Log, err error) {
	if opts.Segments == 0 {
		opts.Segments = segmentsKept
	}
	if opts.SegmentBytes == 0 {
		opts.SegmentBytes = segmentBytes
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	l := &Log{opts: opts, grown: make(chan struct{})}
	torn, err := l.findEnd()
	if err != nil {
		return nil, fmt.Errorf("open audit log %s: %w", opts.Dir, err)
	}
	if torn.bytes == 0 {
		return l, nil
	}
	fields := map[string]string{"bytes": fmt.Sprint(torn.bytes), "start": Quote(torn.start)}
	if _, err := l.Append("audit.cut", "", fields); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// findEnd opens the newest segment and cuts off what is torn.
func (l *Log) findEnd() (torn, error) {
	segments, err := listSegments(l.opts.Dir)
	if err != nil || len(segments) == 0 {
		return torn{}, err
	}
	newest := segments[len(segments)-1]
	t, err := readTail(segmentPath(l.opts.Dir, newest))
	if err != nil {
		return torn{}, err
	}
	l.end = end{seq: t.seq, hash: t.hash, segment: newest, size: t.good}
	if t.seq == 0 && newest > 1 {
		if err := l.endBefore(segments); err != nil {
			return torn{}, err
		}
	}
	l.synced = l.end.seq
	if l.file, err = os.OpenFile(segmentPath(l.opts.Dir, newest), os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return torn{}, err
	}
	if t.torn.bytes == 0 {
		return t.torn, nil
	}
	return t.torn, l.rewind()
}

// endBefore takes the last event from the segment before the newest, which
// was closed whole: the newest holds no event yet.
func (l *Log) endBefore(segments []uint64) error {
	var t tail
	if i := len(segments) - 2; i >= 0 {
		var err error
		if t, err = readTail(segmentPath(l.opts.Dir, segments[i])); err != nil {
			return err
		}
	}
	if t.seq+1 != l.end.segment || t.torn.bytes > 0 {
		return corrupt("event %d, the last before %s, is missing", l.end.segment-1, segmentName(l.end.segment))
	}
	l.end.seq, l.end.hash = t.seq, t.hash
	return nil
}

func corrupt(format string, args ...any) error {
	return fault.New(fault.Corrupt, format, args...).
		Hint("move the audit folder away to start a new log, and keep it for inspection")
}

// Append records an event and returns it as it was recorded. Type and the
// keys of fields are lower-case words with dots and underscores; values are
// any text: long ones are shortened, and ones that do not print are quoted.
// There are at most 16 fields.
//
// It takes no context: what happened is recorded even if whoever asked for it
// has gone. After an error of the file system that leaves the log's end in
// doubt, every later Append returns that error until the log is opened again;
// a full disk alone is not one.
func (l *Log) Append(typ, sandboxID string, fields map[string]string) (Event, error) {
	e, err := clean(Event{Type: typ, SandboxID: sandboxID, Fields: fields})
	if err != nil {
		return Event{}, fmt.Errorf("append event: %w", err)
	}
	if e, err = l.write(e); err != nil {
		return Event{}, fmt.Errorf("append event %s: %w", typ, err)
	}
	if err := l.sync(e.Seq); err != nil {
		return e, fmt.Errorf("sync event %s: %w", typ, err)
	}
	return e, nil
}

// write gives e its number and time and writes its line.
func (l *Log) write(e Event) (Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return e, l.broken
	}
	e.Seq, e.Time = l.end.seq+1, l.opts.Clock().UTC().Round(0)
	line, hash, err := encode(e, l.end.hash)
	if err != nil {
		return e, err
	}
	if err := l.makeRoom(int64(len(line))); err != nil {
		return e, err
	}
	if _, err := l.file.Write(line); err != nil {
		return e, errors.Join(err, l.rewind())
	}
	l.end.seq, l.end.hash = e.Seq, hash
	l.end.size += int64(len(line))
	close(l.grown)
	l.grown = make(chan struct{})
	return e, nil
}

// makeRoom begins a new segment if there is none or the line does not fit.
func (l *Log) makeRoom(line int64) error {
	if l.file != nil && (l.end.size == 0 || l.end.size+line <= l.opts.SegmentBytes) {
		return nil
	}
	if l.file != nil {
		if err := l.file.Sync(); err != nil {
			l.broken = err
			return err
		}
		l.synced = l.end.seq
	}
	first := l.end.seq + 1
	f, err := os.OpenFile(segmentPath(l.opts.Dir, first), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	old := l.file
	l.file, l.end.segment, l.end.size = f, first, 0
	err = durable.Sync(l.opts.Dir)
	if old != nil {
		err = errors.Join(err, old.Close())
	}
	if err == nil {
		err = l.dropOldest()
	}
	l.broken = err
	return err
}

// dropOldest removes the segments that are too many.
func (l *Log) dropOldest() error {
	segments, err := listSegments(l.opts.Dir)
	if err != nil {
		return err
	}
	for len(segments) > l.opts.Segments {
		if err := os.Remove(segmentPath(l.opts.Dir, segments[0])); err != nil {
			return err
		}
		segments = segments[1:]
	}
	return nil
}

// rewind cuts the newest segment back to its last whole line.
func (l *Log) rewind() error {
	if err := errors.Join(l.file.Truncate(l.end.size), l.file.Sync()); err != nil {
		l.broken = fmt.Errorf("cut off torn line: %w", err)
		return l.broken
	}
	return nil
}

// sync returns when event seq is on stable storage. Appends that arrive while
// another one syncs wait and find that the next sync covered them all.
func (l *Log) sync(seq uint64) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	upto, file, done := l.end.seq, l.file, l.synced >= seq
	l.mu.Unlock()
	if done {
		return nil
	}
	err := file.Sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && l.synced < seq { // a segment that was closed is synced
		l.broken = err
		return err
	}
	l.synced = max(l.synced, upto)
	return nil
}

// Head returns the number of the last event, 0 if there is none, and the hash
// of its line in hex. Whoever keeps both elsewhere can prove later that
// nothing up to there was changed.
func (l *Log) Head() (seq uint64, hash string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end.seq, l.end.hash.String()
}

// Close ends the use of the log. Readers that follow it come to their end.
// Repeating it is no error.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.broken, ErrClosed) {
		return nil
	}
	l.broken = ErrClosed
	close(l.grown)
	l.grown = make(chan struct{})
	if l.file == nil {
		return nil
	}
	if err := errors.Join(l.file.Sync(), l.file.Close()); err != nil {
		return fmt.Errorf("close audit log: %w", err)
	}
	return nil
}
