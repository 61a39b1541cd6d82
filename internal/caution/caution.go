// Package caution takes a snapshot of a machine just before something that its
// operator calls risky: a command that fits a pattern, or the first connection
// to a destination.
//
// What fails is recorded and stops nothing: an operator who cannot have a
// snapshot still wants the command. caution must not know where commands and
// connections come from. A Guard is safe for concurrent use.
package caution

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/risk"
	"bulkhead/internal/sandbox/schedule"
)

// The causes of these snapshots.
const (
	BeforeExec    = "before-exec"
	BeforeContact = "before-contact"
)

const (
	// kept is how many snapshots of each cause are kept, named ones aside.
	kept = 8
	// maxWhat bounds what is kept of what it was, in bytes.
	maxWhat = 120
)

// Sandboxes is what is taken care of.
type Sandboxes interface {
	Get(ref string) (sandbox.Sandbox, error)
	Timeline(ref string) (sandbox.Sandbox, []pool.Snapshot, error)
	SnapshotFor(ctx context.Context, ref string, why sandbox.Why) (pool.Snapshot, error)
}

// Guard takes care of sandboxes. All exported fields are needed.
type Guard struct {
	Sandboxes Sandboxes
	Event     func(ctx context.Context, typ, id string, fields map[string]string)
	Clock     func() time.Time
	Log       *slog.Logger

	mu sync.Mutex
	// turns has those whose turn it is or who wait for it; guarded by mu.
	turns map[string]*turn
}

// turn is of one sandbox: one risk at a time, so that two at once have one
// snapshot.
type turn struct {
	sync.Mutex
	wanted int // guarded by the Guard's mu
}

// take waits for the turn of a sandbox, and returns what ends it.
func (g *Guard) take(id string) (done func()) {
	g.mu.Lock()
	t := g.turns[id]
	if t == nil {
		if g.turns == nil {
			g.turns = map[string]*turn{}
		}
		t = &turn{}
		g.turns[id] = t
	}
	t.wanted++
	g.mu.Unlock()
	t.Lock()
	return func() {
		t.Unlock()
		g.mu.Lock()
		defer g.mu.Unlock()
		if t.wanted--; t.wanted == 0 {
			delete(g.turns, id)
		}
	}
}

// Heeds reports whether commands for a sandbox are to be looked at.
func (g *Guard) Heeds(ref string) bool {
	s, err := g.Sandboxes.Get(ref)
	return err == nil && len(s.Schedule.Before.Commands) > 0
}

// Exec comes before a command is started, its program first.
func (g *Guard) Exec(ctx context.Context, ref string, command []string) {
	if s, err := g.Sandboxes.Get(ref); err == nil && risk.Fits(s.Schedule.Before.Commands, command) {
		g.before(ctx, s, BeforeExec, strings.Join(command, " "))
	}
}

// Contact comes before a machine talks to a destination for the first time.
func (g *Guard) Contact(ctx context.Context, ref, destination string) {
	if s, err := g.Sandboxes.Get(ref); err == nil && s.Schedule.Before.Contact {
		g.before(ctx, s, BeforeContact, destination)
	}
}

// before takes a snapshot unless there was one not long ago.
func (g *Guard) before(ctx context.Context, s sandbox.Sandbox, cause, what string) {
	id := string(s.ID)
	defer g.take(id)()
	if g.recent(id, s.Schedule.Before.Interval) {
		return
	}
	what = strings.ToValidUTF8(what[:min(len(what), maxWhat)], "")
	_, err := g.Sandboxes.SnapshotFor(ctx, id, sandbox.Why{Cause: cause, What: what, Keep: schedule.Keep{Last: kept}})
	if err != nil {
		g.Log.WarnContext(ctx, "no snapshot before something risky", "op", cause, "sandbox", id, "err", err)
		g.Event(ctx, "snapshot.missed", id, map[string]string{"cause": cause, "what": what, "err": err.Error()})
	}
}

// recent reports whether there is a snapshot of these within the interval.
func (g *Guard) recent(id string, interval time.Duration) bool {
	_, snaps, err := g.Sandboxes.Timeline(id)
	oldest := g.Clock().Add(-interval)
	for _, s := range snaps {
		if err == nil && (s.Cause == BeforeExec || s.Cause == BeforeContact) && s.Created.After(oldest) {
			return true
		}
	}
	return false
}
