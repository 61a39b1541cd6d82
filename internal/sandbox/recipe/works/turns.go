package works

import (
	"context"
	"sync"
)

// turns says whose build may have a machine: so many at a time, and so many of
// one team, so that no team waits for all builds of another.
type turns struct {
	all, team int

	mu sync.Mutex
	// have is how many each team has; guarded by mu.
	have map[string]int
	// changed is closed when somebody gives a turn back; guarded by mu.
	changed chan struct{}
}

func newTurns(all, team int) *turns {
	return &turns{all: all, team: team, have: map[string]int{}, changed: make(chan struct{})}
}

// take waits for a turn until ctx ends, and calls waits first if it is not had at
// once.
func (t *turns) take(ctx context.Context, team string, waits func()) error {
	for {
		changed, ok := t.try(team)
		if ok {
			return nil
		}
		if waits != nil {
			waits()
			waits = nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *turns) try(team string) (changed <-chan struct{}, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := 0
	for _, n := range t.have {
		all += n
	}
	if all >= t.all || t.have[team] >= t.team {
		return t.changed, false
	}
	t.have[team]++
	return nil, true
}

func (t *turns) giveBack(team string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.have[team]--; t.have[team] == 0 {
		delete(t.have, team)
	}
	close(t.changed)
	t.changed = make(chan struct{})
}
