package app

import (
	"sync"
	"time"

	"bulkhead/internal/cli/show"
	"bulkhead/internal/cli/tty"
)

// Wait says on a terminal what is waited for, once that takes a second, and for
// how long by now, until done. Repeating done is no error.
func (a *App) Wait(what string) (done func()) {
	if a.Output == "json" || !tty.Is(a.Stderr) {
		return func() {}
	}
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		p := &show.Progress{W: a.Stderr, Live: true}
		defer p.End()
		began := time.Now()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.Line(what + " ... " + show.Age(time.Since(began)))
			case <-over:
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(over)
		<-ended
	})
}
