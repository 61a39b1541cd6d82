// Package input reads what requests say: bodies, and parameters of a query.
//
// Everything in a request is hostile; what does not fit is a fault.Invalid error
// that says which part of the request it is about. input must not know what is
// asked for.
package input

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"bulkhead/internal/fault"
)

// maxQuoted bounds what is said of a bad value.
const maxQuoted = 64

// JSON reads a request's body, which somebody has bounded, into v. An empty body
// leaves v as it is; unknown fields are ignored.
func JSON(r *http.Request, v any) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fault.New(fault.Invalid, "read request body: %w", err)
	}
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fault.New(fault.Invalid, "read request body: %w", err)
	}
	return nil
}

// Range is the whole numbers from Least to Most.
type Range struct{ Least, Most int64 }

// Count reads a query parameter that is a whole number within a range; absent is
// otherwise.
func Count(r *http.Request, key string, otherwise int64, within Range) (int64, error) {
	v := r.URL.Query().Get(key)
	if v == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < within.Least || n > within.Most {
		return 0, fault.New(fault.Invalid, "query parameter %s: %q is not a whole number from %d to %d", key, Quoted(v), within.Least, within.Most)
	}
	return n, nil
}

// OneOf reads a query parameter that is one of some words; absent is the first.
func OneOf(r *http.Request, key string, words ...string) (string, error) {
	v := r.URL.Query().Get(key)
	if v == "" {
		return words[0], nil
	}
	for _, w := range words {
		if v == w {
			return w, nil
		}
	}
	return "", fault.New(fault.Invalid, "query parameter %s: %q is none of %q", key, Quoted(v), words)
}

// Time reads a query parameter that is a time as RFC 3339 writes it; absent is
// the zero time.
func Time(r *http.Request, key string) (time.Time, error) {
	v := r.URL.Query().Get(key)
	if v == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, v)
	if err != nil {
		return at, fault.New(fault.Invalid, "query parameter %s: %q is no time", key, Quoted(v)).Hint("write it as RFC 3339 says")
	}
	return at, nil
}

// Quoted is a part of a request that fits into a message.
func Quoted(s string) string {
	if len(s) > maxQuoted {
		return s[:maxQuoted] + "..."
	}
	return s
}
