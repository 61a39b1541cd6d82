package room

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Machines are those that a pool is guarded against.
type Machines interface {
	// Free is what is left of the pool, in bytes.
	Free() (int64, error)
	Writers() []Machine
	// Hold and Release return when it is done, and at once for a machine that is
	// gone or does something else meanwhile.
	Hold(id, why string) error
	Release(id string) error
}

// Watch holds and releases machines until ctx ends, and looks at each tick. None
// waits for another, whose owner may be busy or whose agent slow.
func Watch(ctx context.Context, ticks <-chan time.Time, m Machines, log *slog.Logger) {
	w := watch{log: log, busy: map[string]bool{}}
	defer w.all.Wait()
	for {
		select {
		case <-ticks:
		case <-ctx.Done():
			return
		}
		free, err := m.Free()
		if err != nil {
			log.ErrorContext(ctx, "pool does not say how full it is", "err", err)
			continue
		}
		next := w.guard.Look(free, m.Writers())
		for id, why := range next.Hold {
			w.begin(ctx, id, func() error { return m.Hold(id, why) })
		}
		for _, id := range next.Release {
			w.begin(ctx, id, func() error { return m.Release(id) })
		}
	}
}

// watch is what is under way.
type watch struct {
	guard Guard
	log   *slog.Logger
	all   sync.WaitGroup

	mu   sync.Mutex
	busy map[string]bool // guarded by mu
}

// begin does something with a machine, unless something is under way with it.
func (w *watch) begin(ctx context.Context, id string, do func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy[id] {
		return
	}
	w.busy[id] = true
	w.all.Go(func() {
		if err := do(); err != nil && ctx.Err() == nil {
			w.log.ErrorContext(ctx, "machine neither held nor released", "sandbox", id, "err", err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.busy, id)
	})
}
