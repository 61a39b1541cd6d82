// Package quota bounds how often each key asks, so that one client cannot take
// the daemon from the others.
//
// Each key has a bucket of tokens (golang.org/x/time/rate) that fills at a steady
// rate and holds one second's worth. quota must not know HTTP or what keys may
// do. A Quota is safe for concurrent use.
package quota

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Quota is a rate for each of many.
type Quota struct {
	perSecond int
	clock     func() time.Time

	mu      sync.Mutex
	buckets map[string]*rate.Limiter // guarded by mu
}

// New returns a quota of requests a second; 0 is no limit.
func New(perSecond int, clock func() time.Time) *Quota {
	return &Quota{perSecond: perSecond, clock: clock, buckets: map[string]*rate.Limiter{}}
}

// Verdict is about one request.
type Verdict struct {
	OK bool
	// Limit is how many there may be a second; 0 if there is no limit.
	Limit int
	// Remaining is how many there may be at once now.
	Remaining int
	// Reset is after how many seconds it will be Limit again, and RetryAfter after
	// how many it is worth asking again; at least 1 if OK is false.
	Reset, RetryAfter int
}

// Take takes one request of who is called so.
func (q *Quota) Take(who string) Verdict {
	if q == nil || q.perSecond == 0 {
		return Verdict{OK: true}
	}
	now := q.clock()
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.buckets[who]
	if b == nil {
		q.forget(now)
		b = rate.NewLimiter(rate.Limit(q.perSecond), q.perSecond)
		q.buckets[who] = b
	}
	v := Verdict{OK: b.AllowN(now, 1), Limit: q.perSecond}
	left := b.TokensAt(now)
	v.Remaining = max(0, int(left))
	v.Reset = int(math.Ceil((float64(q.perSecond) - left) / float64(q.perSecond)))
	if !v.OK {
		v.RetryAfter = 1 // a bucket is full again within a second
	}
	return v
}

// maxBuckets is how many are kept before full ones, which are like new, are
// dropped. mu is held.
const maxBuckets = 10_000

func (q *Quota) forget(now time.Time) {
	if len(q.buckets) < maxBuckets {
		return
	}
	for who, b := range q.buckets {
		if b.TokensAt(now) >= float64(q.perSecond) {
			delete(q.buckets, who)
		}
	}
}
