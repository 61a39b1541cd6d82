// Package repeat has a request that is sent again, because its answer was lost,
// answered as it was the first time: by a key that its client chooses.
//
// Keys are remembered in memory. What a request has made is to carry its key
// itself, for a daemon that was restarted in between. repeat must not know what is
// asked.
package repeat

import (
	"context"
	"regexp"
	"sync"
	"time"

	"bulkhead/internal/fault"
)

const (
	// kept is how long an answer is remembered.
	kept = time.Hour
	// maxKeys bounds what is held in memory.
	maxKeys = 10_000
)

// keyForm is what SDKs make keys of.
var keyForm = regexp.MustCompile(`^[a-z0-9-]{1,255}$`)

// Answers remembers answers by the keys of their requests. The zero one is ready;
// it is safe for concurrent use.
type Answers[T any] struct {
	mu  sync.Mutex
	all map[string]*answer[T] // guarded by mu
}

// answer is a request under way, or what became of it.
type answer[T any] struct {
	done  chan struct{} // closed once it is known
	value T
	err   error
	until time.Time
}

// Check returns a fault.Invalid error for what is no key.
func Check(key string) error {
	if keyForm.MatchString(key) {
		return nil
	}
	return fault.New(fault.Invalid, "Idempotency-Key is not 1 to 255 of a-z, 0-9 and -")
}

// Do answers with what f answers, or has answered for the same key. Errors are
// not remembered: who is refused may try again.
func (r *Answers[T]) Do(ctx context.Context, key string, now time.Time, f func() (T, error)) (none T, err error) {
	known, mine, err := r.enter(key, now)
	switch {
	case err != nil:
		return none, err
	case !mine:
		select {
		case <-known.done:
			return known.value, known.err
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
	defer close(known.done)
	known.err = fault.New(fault.Unavailable, "the first request with this key did not end")
	known.value, known.err = f()
	if known.err != nil {
		r.mu.Lock()
		delete(r.all, key)
		r.mu.Unlock()
	}
	return known.value, known.err
}

// enter returns what is known of a key, and whether the caller is to find out.
func (r *Answers[T]) enter(key string, now time.Time) (known *answer[T], mine bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, old := range r.all {
		if now.After(old.until) {
			delete(r.all, k)
		}
	}
	if known, ok := r.all[key]; ok {
		return known, false, nil
	}
	if len(r.all) >= maxKeys {
		return nil, false, fault.New(fault.Unavailable, "too many keys of requests are remembered").Hint("send none, or try later")
	}
	if r.all == nil {
		r.all = map[string]*answer[T]{}
	}
	known = &answer[T]{done: make(chan struct{}), until: now.Add(kept)}
	r.all[key] = known
	return known, true, nil
}
