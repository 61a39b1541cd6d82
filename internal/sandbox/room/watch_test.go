package room_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead/internal/sandbox/room"
)

// crowd is machines on a full pool, of which one has an owner that is busy.
type crowd struct {
	held chan string
	busy chan struct{}
	// asked is how often the busy one was asked for something at a time.
	asked atomic.Int32
	twice atomic.Bool
}

func (c *crowd) Free() (int64, error) { return 100 * mib, nil }

func (c *crowd) Writers() []room.Machine { return []room.Machine{{ID: "busy"}, {ID: "idle"}} }

func (c *crowd) Hold(id, _ string) error {
	c.held <- id
	if id == "busy" {
		if c.asked.Add(1) > 1 {
			c.twice.Store(true)
		}
		<-c.busy
		c.asked.Add(-1)
	}
	return nil
}

func (c *crowd) Release(string) error { return nil }

// A machine whose owner is busy keeps no other from being held, and is not asked
// for the same again meanwhile.
func TestWatchWaitsForNobody(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := &crowd{held: make(chan string), busy: make(chan struct{})}
	ticks := make(chan time.Time)
	var done sync.WaitGroup
	done.Go(func() { room.Watch(ctx, ticks, c, slog.New(slog.NewTextHandler(t.Output(), nil))) })
	for idle := 0; idle < 3; { // each time it is to be held anew
		select {
		case ticks <- time.Time{}:
		case id := <-c.held:
			if id == "idle" {
				idle++
			}
		}
	}
	if c.twice.Load() {
		t.Error("who is busy was asked again")
	}
	cancel()
	close(c.busy)
	go func() {
		for range c.held {
		}
	}()
	done.Wait()
	close(c.held)
}
