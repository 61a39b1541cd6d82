package process

import (
	"context"
	"slices"
	"sync"

	pb "bulkhead/proto/process"
)

// fanout hands the output of one process to everybody who listens. A publisher
// waits for each listener, so the slowest sets the pace and nothing piles up.
type fanout struct {
	mu   sync.Mutex
	subs []*listener               // replaced, never changed in place; guarded by mu
	end  *pb.ProcessEvent_EndEvent // nil until the end; guarded by mu
}

// listener is one client of one process. events is closed by finish, when all
// output has been handed over.
type listener struct {
	events chan *pb.ProcessEvent
	gone   context.Context // done when nobody reads events any more
	leave  context.CancelFunc
}

// listen registers a client until ctx is done or leave is called, which the
// caller must do. After the end the listener's events are closed at once.
func (f *fanout) listen(ctx context.Context) *listener {
	gone, cancel := context.WithCancel(ctx)
	l := &listener{events: make(chan *pb.ProcessEvent), gone: gone}
	l.leave = func() {
		cancel()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.subs = slices.DeleteFunc(slices.Clone(f.subs), func(o *listener) bool { return o == l })
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end != nil {
		close(l.events)
		return l
	}
	f.subs = append(slices.Clip(f.subs), l)
	return l
}

func (f *fanout) wanted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.subs) > 0
}

// publish hands ev to every listener that is still there. It must not be
// called after finish.
func (f *fanout) publish(ev *pb.ProcessEvent) {
	f.mu.Lock()
	subs := f.subs
	f.mu.Unlock()
	for _, l := range subs {
		select {
		case l.events <- ev:
		case <-l.gone.Done():
		}
	}
}

// finish tells every listener, present and future, how it ended.
func (f *fanout) finish(end *pb.ProcessEvent_EndEvent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end = end
	for _, l := range f.subs {
		close(l.events)
	}
	f.subs = nil
}

// ending returns the end; nil before finish.
func (f *fanout) ending() *pb.ProcessEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &pb.ProcessEvent{Event: &pb.ProcessEvent_End{End: f.end}}
}
