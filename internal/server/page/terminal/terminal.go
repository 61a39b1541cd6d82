// Package terminal keeps shells in sandboxes for browsers: a shell is the
// guest's, a Shell here is what follows it, and any number of browsers look at
// it over WebSockets, now or later.
//
//	guest's shell ──output──► Shell (the last 256 KiB) ──► every browser
//	              ◄──input, size── from any of them
//
// A browser that comes back says up to where it has seen the output and gets
// the rest. If nobody has looked for two minutes, the host lets go, so that the
// machine can be idle; the shell runs on in the guest, and who comes then finds
// it by its name there.
//
// What a shell prints is the guest's: bytes are passed on and never read here.
// terminal must not know how a guest is reached. A Room is safe for concurrent
// use.
package terminal

import (
	"context"
	"net/http"
	"sync"
	"time"

	"bulkhead/internal/fault"
)

const (
	// maxShells bounds the shells that are followed in one sandbox.
	maxShells = 16
	// patience is how long a shell is followed that nobody looks at.
	patience = 2 * time.Minute
)

// Room is all shells that are followed.
type Room struct {
	// Transport carries HTTP to the agent in a sandbox, by its id.
	Transport func(ctx context.Context, id string) (http.RoundTripper, error)

	mu     sync.Mutex
	shells map[key]*Shell // guarded by mu
	closed bool           // guarded by mu
	open   sync.WaitGroup
}

type key struct{ sandbox, name string }

// Enter returns a shell of a sandbox, which runs: the one that is followed, the
// one that the guest has under that name, or a new one. The caller calls leave
// when it looks no more.
func (r *Room) Enter(ctx context.Context, sandbox, name string, size Size) (s *Shell, leave func(), err error) {
	k := key{sandbox, name}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, nil, fault.New(fault.Unavailable, "the daemon ends")
	}
	s = r.shells[k]
	if s == nil {
		n := 0
		for other := range r.shells {
			if other.sandbox == sandbox {
				n++
			}
		}
		if n >= maxShells {
			r.mu.Unlock()
			return nil, nil, fault.New(fault.Exhausted, "sandbox %s has %d shells open", sandbox, n).Hint("close one of them")
		}
		s = newShell(name)
		if r.shells == nil {
			r.shells = map[key]*Shell{}
		}
		r.shells[k] = s
		r.open.Go(func() {
			s.follow(r.way(sandbox), size)
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.shells, k)
		})
	}
	s.enter()
	r.open.Add(1)
	r.mu.Unlock()
	leave = sync.OnceFunc(func() { s.leave(); r.open.Done() })
	select {
	case <-s.ready:
		err = s.failure()
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		leave()
		return nil, nil, err
	}
	return s, leave, nil
}

// way leads to the agent of a sandbox.
func (r *Room) way(sandbox string) func(context.Context) (http.RoundTripper, error) {
	return func(ctx context.Context) (http.RoundTripper, error) { return r.Transport(ctx, sandbox) }
}

// Close lets go of all shells and waits for that, and for those who have entered
// to leave. The shells run on in their guests.
func (r *Room) Close() {
	r.mu.Lock()
	r.closed = true
	for _, s := range r.shells {
		s.stop()
	}
	r.mu.Unlock()
	r.open.Wait()
}
