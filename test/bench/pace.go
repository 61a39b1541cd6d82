package main

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// pace is when requests are sent: so many, one in each interval, whether those
// before have been answered or not.
type pace struct {
	requests int
	every    time.Duration
}

// paced says how requests were answered that were sent at a pace.
type paced struct {
	// took is counted from when a request was due, in order of size: one that
	// could not be sent in time has waited as well.
	took []time.Duration
	// failed has an error for each that was not answered as it should be.
	failed []error
}

// send has do send every request, by its number, and waits for all answers.
func (p pace) send(do func(i int) error) paced {
	took, errs := make([]time.Duration, p.requests), make([]error, p.requests)
	var all sync.WaitGroup
	began := time.Now()
	for i := range p.requests {
		due := began.Add(time.Duration(i) * p.every)
		<-time.After(time.Until(due))
		all.Go(func() {
			errs[i] = do(i)
			took[i] = time.Since(due)
		})
	}
	all.Wait()
	slices.Sort(took)
	return paced{took: took, failed: slices.DeleteFunc(errs, func(err error) bool { return err == nil })}
}

// within is how long the given share of requests took at most: 0.99 for all but
// the slowest hundredth.
func (p paced) within(share float64) time.Duration {
	return p.took[min(int(share*float64(len(p.took))), len(p.took)-1)]
}

// and is both together.
func (p paced) and(q paced) paced {
	both := paced{took: slices.Concat(p.took, q.took), failed: slices.Concat(p.failed, q.failed)}
	slices.Sort(both.took)
	return both
}

// err is nil if all were answered as they should be.
func (p paced) err() error {
	return errors.Join(p.failed[:min(len(p.failed), 3)]...)
}
