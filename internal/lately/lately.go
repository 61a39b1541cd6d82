// Package lately remembers what takes long to find out and may be a little
// old, so that who asks often does not cost more than who asks now and then.
//
// lately must not know what is found out.
package lately

import (
	"context"
	"sync"
	"time"
)

// Cache remembers a value for each key. A value is good as it is for Good;
// after that whoever asks first finds it out anew, and the others get the old
// one meanwhile, up to twice that age. The zero value is empty and ready; it is
// safe for concurrent use.
type Cache[K comparable, V any] struct {
	// Now tells the time; nil means time.Now.
	Now func() time.Time

	mu    sync.Mutex
	known map[K]*entry[V] // guarded by mu; nil at first
}

const (
	// Good is how long a value is as good as new.
	Good = 10 * time.Second
	// maxKnown bounds what is remembered.
	maxKnown = 4096
)

// entry is what is known of a key.
type entry[V any] struct {
	// finding is held by who finds out; it is taken before the cache's.
	finding sync.Mutex
	value   V
	at      time.Time // zero for no value; both are guarded by the cache's mu
}

// Of returns the value of a key, found out by find at most 2*Good ago. Who has
// to wait for another's finding out does so whatever its context says. An error
// of find is returned and not remembered.
func (c *Cache[K, V]) Of(ctx context.Context, key K, find func(context.Context) (V, error)) (V, error) {
	e := c.entry(key)
	value, age := c.look(e)
	if age < Good {
		return value, nil
	}
	if age < 2*Good {
		if !e.finding.TryLock() {
			return value, nil
		}
	} else {
		e.finding.Lock()
	}
	defer e.finding.Unlock()
	if value, age = c.look(e); age < Good { // by whom it was waited for
		return value, nil
	}
	at := c.now()
	value, err := find(ctx)
	if err == nil {
		c.mu.Lock()
		e.value, e.at = value, at
		c.mu.Unlock()
	}
	return value, err
}

func (c *Cache[K, V]) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

func (c *Cache[K, V]) entry(key K) *entry[V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.known[key]
	if e == nil {
		if c.known == nil || len(c.known) >= maxKnown {
			c.known = map[K]*entry[V]{}
		}
		e = &entry[V]{}
		c.known[key] = e
	}
	return e
}

// look returns what is known, and how old it is: very, if it is nothing.
func (c *Cache[K, V]) look(e *entry[V]) (V, time.Duration) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return e.value, now.Sub(e.at)
}
