// Package pace sends requests when they are due, whoever waits for what, and
// says how long they took since then. So a server that stands still is seen by
// everybody who would have come meanwhile, as it is by real ones.
//
// pace must not know what is sent. Its values are used by one goroutine.
package pace

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// Pace is when requests are sent: so many, one in each interval, whether those
// before have been answered or not.
type Pace struct {
	Requests int
	Every    time.Duration
}

// Answers say how requests were answered that were sent at a pace.
type Answers struct {
	// Took is counted from when a request was due, in order of size: one that
	// could not be sent in time has waited as well.
	Took []time.Duration
	// Failed has an error for each that was not answered as it should be.
	Failed []error
}

// Send has do send every request, by its number, and waits for all answers.
func (p Pace) Send(do func(i int) error) Answers {
	took, errs := make([]time.Duration, p.Requests), make([]error, p.Requests)
	var all sync.WaitGroup
	began := time.Now()
	for i := range p.Requests {
		due := began.Add(time.Duration(i) * p.Every)
		<-time.After(time.Until(due))
		all.Go(func() {
			errs[i] = do(i)
			took[i] = time.Since(due)
		})
	}
	all.Wait()
	slices.Sort(took)
	return Answers{Took: took, Failed: slices.DeleteFunc(errs, func(err error) bool { return err == nil })}
}

// Within is how long the given share of requests took at most: 0.99 for all but
// the slowest hundredth.
func (a Answers) Within(share float64) time.Duration {
	return a.Took[min(int(share*float64(len(a.Took))), len(a.Took)-1)]
}

// And is both together.
func (a Answers) And(b Answers) Answers {
	both := Answers{Took: slices.Concat(a.Took, b.Took), Failed: slices.Concat(a.Failed, b.Failed)}
	slices.Sort(both.Took)
	return both
}

// Err is nil if all were answered as they should be.
func (a Answers) Err() error {
	return errors.Join(a.Failed[:min(len(a.Failed), 3)]...)
}
