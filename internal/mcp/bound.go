package mcp

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of what goes to a model and what comes from it, in bytes. A model reads
// some 100 KiB at once, and all of it costs.
const (
	// maxRequest bounds one message of a client.
	maxRequest = 8 << 20
	// headBytes and tailBytes are how much stays of each output of a program:
	// where it began, and how it ended.
	headBytes, tailBytes = 8 << 10, 24 << 10
	// maxRead is how much of a file one call reads, defaultRead if it does not
	// say.
	maxRead, defaultRead = 256 << 10, 64 << 10
	// maxWrite bounds what one call writes.
	maxWrite = 4 << 20
	// maxEntries bounds a listing of files, maxEvents one of events.
	maxEntries, maxEvents = 500, 200
	// maxText bounds one text of an event or a policy.
	maxText = 32 << 10
)

// excerpt keeps the beginning and the end of what is written to it.
type excerpt struct {
	head, tail []byte
	total      int64
}

// Write implements io.Writer.
func (e *excerpt) Write(p []byte) (int, error) {
	n := len(p)
	e.total += int64(n)
	room := min(headBytes-len(e.head), len(p))
	e.head, p = append(e.head, p[:room]...), p[room:]
	e.tail = append(e.tail, p...)
	if len(e.tail) > 2*tailBytes { // not for each byte
		e.tail = bytes.Clone(e.tail[len(e.tail)-tailBytes:])
	}
	return n, nil
}

// text returns what was kept, with a line that says what was not, and how much
// that is.
func (e *excerpt) text() (kept string, cut int64) {
	tail := e.tail[max(0, len(e.tail)-tailBytes):]
	cut = e.total - int64(len(e.head)+len(tail))
	if cut == 0 {
		return valid(append(bytes.Clone(e.head), tail...)), 0
	}
	return valid(e.head) + fmt.Sprintf("\n[... %d bytes left out ...]\n", cut) + valid(tail), cut
}

// valid makes text of what a program wrote.
func valid(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

// short bounds a text, and says so in it.
func short(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + fmt.Sprintf(" [... %d bytes left out]", len(s)-maxText)
}

// isText reports whether bytes can go as text without loss. A character that is
// cut off at the end is none.
func isText(b []byte) bool { return utf8.Valid(b) && !bytes.ContainsRune(b, 0) }
