package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Level is how much an entry matters.
type Level string

// The levels, from the least.
const (
	Debug Level = "debug"
	Info  Level = "info"
	Warn  Level = "warn"
	Error Level = "error"
)

// Levels lists them from the least.
func Levels() []Level { return []Level{Debug, Info, Warn, Error} }

// Entry is one line that a build says. Step is as in a Reason.
type Entry struct {
	Time    time.Time `json:"t"`
	Level   Level     `json:"l"`
	Message string    `json:"m"`
	Step    string    `json:"s,omitempty"`
}

// Bounds of what a build says: entries, bytes of one and of all. A guest chose
// most of it.
const (
	maxEntries = 10_000
	maxMessage = 2 << 10
	maxLog     = 4 << 20
)

// leftOut is the last entry of a log that is full.
const leftOut = "further output is left out"

// Log takes what a build says. It is safe for concurrent use.
type Log struct {
	file  *os.File
	clock func() time.Time

	mu sync.Mutex
	// entries and bytes are what it has; full that it takes no more. Guarded by
	// mu.
	entries, bytes int
	full           bool
}

// Log opens the log of a build, which the caller closes.
func (b *Book) Log(id string) (*Log, error) {
	f, err := os.OpenFile(filepath.Join(b.dir, id, logFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return &Log{file: f, clock: b.clock}, nil
}

// Close ends the log.
func (l *Log) Close() error { return l.file.Close() }

// Say adds an entry. A log that is full, or that cannot be written, takes no
// more: a build does not fail for what it says.
func (l *Log) Say(level Level, step, message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full {
		return
	}
	line := l.line(level, step, message)
	if l.entries+1 >= maxEntries || l.bytes+len(line) > maxLog {
		l.full = true
		line = l.line(Warn, step, leftOut)
	}
	if _, err := l.file.Write(line); err != nil {
		l.full = true
	}
	l.entries++
	l.bytes += len(line)
}

func (l *Log) line(level Level, step, message string) []byte {
	b, err := json.Marshal(Entry{Time: l.clock().UTC(), Level: level, Message: Plain(message), Step: step})
	if err != nil {
		panic(err) // strings always encode
	}
	return append(b, '\n')
}

// Plain makes a line of what anybody may have written: text without what moves a
// cursor or changes a colour, and no more than fits an entry.
func Plain(s string) string {
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() < maxMessage; {
		if n := sequence(s[i:]); n > 0 {
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch {
		case r == '\t':
			b.WriteByte(' ')
		case r != utf8.RuneError && unicode.IsPrint(r):
			b.WriteRune(r)
		}
	}
	return b.String()
}

// sequence returns the length of the control sequence that s begins with
// (ECMA-48, 5.4), 0 if there is none.
func sequence(s string) int {
	if !strings.HasPrefix(s, "\x1b[") {
		return 0
	}
	for i := 2; i < len(s); i++ {
		if c := s[i]; c >= 0x40 && c <= 0x7e {
			return i + 1
		} else if c < 0x20 || c > 0x3f {
			return i
		}
	}
	return len(s)
}

// Output makes entries of the lines that are written to it, at a level. It is for
// one goroutine.
type Output struct {
	Log   *Log
	Level Level
	Step  string
	line  []byte
}

// Write implements io.Writer. It takes everything.
func (o *Output) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		// What a progress bar writes over is a line, too.
		at := bytes.IndexAny(rest, "\r\n")
		if at < 0 {
			o.keep(rest)
			break
		}
		o.keep(rest[:at])
		o.Flush()
		rest = rest[at+1:]
	}
	return len(p), nil
}

func (o *Output) keep(p []byte) {
	const most = 2 * maxMessage // the rest of a long line is lost
	o.line = append(o.line, p[:min(len(p), max(0, most-len(o.line)))]...)
}

// Flush makes an entry of a line that has not ended.
func (o *Output) Flush() {
	if text := string(o.line); strings.TrimSpace(text) != "" {
		o.Log.Say(o.Level, o.Step, text)
	}
	o.line = o.line[:0]
}

// Entries returns what a build has said, of those entries of a level or above.
func (b *Book) Entries(id string, least Level) ([]Entry, error) {
	raw, err := os.ReadFile(filepath.Join(b.dir, id, logFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read log of build %s: %w", id, err)
	}
	var all []Entry
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		var e Entry
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			break // it is being written
		}
		if slices.Index(Levels(), e.Level) >= slices.Index(Levels(), least) {
			all = append(all, e)
		}
	}
	return all, nil
}
