// Package fault gives errors that cross a boundary a kind, a text for the
// user, and the way out.
//
// An error without a kind is internal: clients see that something went wrong
// and a request id, the operator's log has the whole chain. fault knows no
// transport: how a kind becomes an HTTP status or an exit code is decided in
// one table each, in server and in cli.
package fault

import (
	"errors"
	"fmt"
)

// Kind says what went wrong in a way that a program can branch on. Kinds are
// append-only: they travel over the API.
type Kind string

// The kinds. Internal is what an error without a kind counts as.
const (
	Invalid     Kind = "invalid"
	NotFound    Kind = "not_found"
	Exists      Kind = "exists"
	WrongState  Kind = "wrong_state"
	Denied      Kind = "denied"
	Exhausted   Kind = "exhausted"
	Unavailable Kind = "unavailable"
	Timeout     Kind = "timeout"
	Unsupported Kind = "unsupported"
	Corrupt     Kind = "corrupt"
	Limited     Kind = "limited"
	Internal    Kind = "internal"
)

// Kinds lists every kind, so that tables over them can be checked for
// completeness.
func Kinds() []Kind {
	return []Kind{
		Invalid, NotFound, Exists, WrongState, Denied, Exhausted,
		Unavailable, Timeout, Unsupported, Corrupt, Limited, Internal,
	}
}

// Error is an error with a kind. Its text is meant for the user: one line,
// no capital, no period.
type Error struct {
	kind  Kind
	text  string
	hint  string
	cause error
}

// New returns an error of the given kind. The format follows fmt.Errorf,
// %w included.
func New(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{kind: kind, text: err.Error(), cause: errors.Unwrap(err)}
}

// Hint returns a copy of e that carries the way out: a command or one short
// sentence. It is shown on a line of its own.
func (e *Error) Hint(format string, args ...any) *Error {
	c := *e
	c.hint = fmt.Sprintf(format, args...)
	return &c
}

// Error returns the user's text, without the hint.
func (e *Error) Error() string { return e.text }

// Unwrap returns what New was given as %w, or nil.
func (e *Error) Unwrap() error { return e.cause }

// KindOf returns the kind of the outermost Error in err's chain, Internal if
// there is none, and "" for a nil error.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.kind
	}
	return Internal
}

// HintOf returns the hint of the outermost Error in err's chain that has one.
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.hint != "" {
			return e.hint
		}
		err = e.cause
	}
	return ""
}

// Is reports whether err has the given kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }
