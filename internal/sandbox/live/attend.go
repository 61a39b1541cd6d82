package live

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// ErrSilent is what ends a wait for an agent that answers nothing at all.
var ErrSilent = errors.New("the agent inside does not answer")

// patience is how long the agent of a running machine may answer nothing, far
// above what it takes on a busy host: 2 ms measured when idle, under a
// translator.
const patience = 20 * time.Second

// asks is how often in that time an agent is asked whether it lives.
const asks = 4

// Patiently returns a context that also ends, with ErrSilent, when the agent
// of a running machine would have answered.
func Patiently(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, patience, ErrSilent)
}

// Attended waits for a guest for as long as its agent lives. What a guest
// takes long for it may take long for; but when an answer is due, the agent is
// asked for a sign of life now and then, and if none comes either, the wait
// ends with ErrSilent. That an answer has begun is all that is waited for: a
// stream may then be quiet for ever.
type Attended struct {
	guest Guest
	still func() bool
}

// Attend returns what carries HTTP to g. still reports whether the machine is
// stopped by us, and so silent for as long as that.
func Attend(g Guest, still func() bool) *Attended { return &Attended{guest: g, still: still} }

// RoundTrip implements http.RoundTripper. r's context must end when the answer
// has been read.
func (a *Attended) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	err = a.await(r.Context(), func(ctx context.Context) error {
		resp, err = a.guest.Transport().RoundTrip(r.WithContext(ctx))
		return err
	})
	return resp, err
}

// await calls f. The context that f gets ends after it only if f fails.
func (a *Attended) await(ctx context.Context, f func(context.Context) error) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	due, answered := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		if a.silent(due) {
			giveUp(ErrSilent)
		}
	})
	err := f(ctx)
	answered()
	watch.Wait()
	if err == nil {
		return nil
	}
	giveUp(err)
	if errors.Is(context.Cause(ctx), ErrSilent) {
		return ErrSilent
	}
	return err
}

// silent returns true once the agent gives no sign of life, false when ctx has
// ended.
func (a *Attended) silent(ctx context.Context) bool {
	tick := time.NewTicker(patience / asks)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if !a.lives(ctx) && ctx.Err() == nil && !a.still() {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}

func (a *Attended) lives(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://guest/health", nil)
	if err != nil {
		return false
	}
	resp, err := a.guest.Transport().RoundTrip(r)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return true
}
