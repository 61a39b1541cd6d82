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

	// one at a time, so that two risks at once have one snapshot
	one sync.Mutex
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
	g.one.Lock()
	defer g.one.Unlock()
	id := string(s.ID)
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
