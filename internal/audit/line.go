package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds on one event, in bytes. The longest line that they allow has 16 ×
// (64 + 6 × 512) bytes and some: a byte takes at most six in JSON.
const (
	maxFields = 16
	maxKey    = 64
	maxValue  = 512
	maxLine   = 64 << 10
)

// Event is one thing that happened.
type Event struct {
	// Seq counts from 1 without gaps.
	Seq uint64 `json:"seq"`
	// Time is the host's, in UTC.
	Time time.Time `json:"time"`
	// Type says what happened: "sandbox.rollback".
	Type string `json:"type"`
	// SandboxID is empty for what concerns the host or a template.
	SandboxID string            `json:"sandboxID,omitempty"`
	Fields    map[string]string `json:"fields,omitempty"`
}

// digest is the hash of a line; all zero stands before the first.
type digest [sha256.Size]byte

// String returns the hash in hex.
func (d digest) String() string { return hex.EncodeToString(d[:]) }

// record is a line without its hash.
type record struct {
	Event
	Prev string `json:"prev"`
}

// A line is the JSON of its record with one member more at the end: the hash,
// which covers every byte before it. So nothing depends on how JSON is
// written, and sha256sum can check it.
const (
	hashKey  = `,"hash":"`
	lineEnd  = `"}`
	trailing = len(hashKey) + 2*sha256.Size + len(lineEnd)
)

// encode returns the line of e, newline included, and its hash.
func encode(e Event, prev digest) ([]byte, digest, error) {
	b, err := json.Marshal(record{Event: e, Prev: prev.String()})
	if err != nil {
		return nil, digest{}, err
	}
	b = b[:len(b)-1] // the closing brace comes after the hash
	sum := digest(sha256.Sum256(b))
	b = append(b, hashKey+sum.String()+lineEnd+"\n"...)
	if len(b) > maxLine {
		return nil, digest{}, fmt.Errorf("line of %d bytes, at most %d fit", len(b), maxLine)
	}
	return b, sum, nil
}

// decode reads a line without its newline. Nothing about the line is trusted:
// it may be torn or tampered with.
func decode(line []byte) (e Event, prev, sum digest, err error) {
	cut := len(line) - trailing
	if cut <= 0 || len(line) >= maxLine {
		return e, prev, sum, fmt.Errorf("%d bytes are not a line", len(line))
	}
	body, tail := line[:cut], line[cut:]
	sum = sha256.Sum256(body)
	if string(tail) != hashKey+sum.String()+lineEnd {
		return e, prev, sum, errors.New("hash does not match")
	}
	var r record
	if err := json.Unmarshal(append(bytes.Clone(body), '}'), &r); err != nil {
		return e, prev, sum, fmt.Errorf("not JSON: %w", err)
	}
	b, err := hex.DecodeString(r.Prev)
	if err != nil || len(b) != len(prev) {
		return e, prev, sum, errors.New("previous hash is not a hash")
	}
	copy(prev[:], b)
	return r.Event, prev, sum, nil
}

// nameForm is the form of types and keys. They come from our own code.
var nameForm = regexp.MustCompile(`^[a-z][a-z0-9_.]*$`)

// clean checks what our own code chose and bounds what may come from a guest.
func clean(e Event) (Event, error) {
	if len(e.Type) > maxKey || !nameForm.MatchString(e.Type) {
		return e, fmt.Errorf("type %q is not usable", shorten(e.Type, maxKey))
	}
	if len(e.Fields) > maxFields {
		return e, fmt.Errorf("%d fields, at most %d fit", len(e.Fields), maxFields)
	}
	e.SandboxID = bounded(shorten(e.SandboxID, maxKey))
	e.Fields = maps.Clone(e.Fields) // the caller's stays as it is
	for k, v := range e.Fields {
		if len(k) > maxKey || !nameForm.MatchString(k) {
			return e, fmt.Errorf("field %q is not usable", shorten(k, maxKey))
		}
		e.Fields[k] = bounded(v)
	}
	return e, nil
}

// Quote makes a field's value of text that a guest chose: quoted, so that it
// cannot be taken for text of ours, with escapes for what does not print, and
// shortened. Append leaves its result as it is.
func Quote(s string) string {
	for most := maxValue; ; most /= 2 {
		if q := strconv.Quote(shorten(s, most)); len(q) <= maxValue {
			return q
		}
	}
}

// bounded returns s if it is short and prints as it is, otherwise what Quote
// makes of it: so no escape sequence, line break or broken UTF-8 is stored,
// whoever forgot to quote.
func bounded(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return Quote(s)
	}
	return shorten(s, maxValue)
}

// shorten returns s in at most the given number of bytes, which ends in dots
// if something is missing.
func shorten(s string, most int) string {
	const dots = "..."
	if len(s) <= most {
		return s
	}
	cut := max(0, most-len(dots))
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + dots
}
