// Package watchdog notices machines that cannot work any more, says so, and
// does what their operators want done then: nothing, a reboot, or a rollback to
// a moment when all was well.
//
//	well ──3 looks without an answer, 2 with an ailment, VMM gone──► unhealthy
//	unhealthy ──remedy, or by itself──► well
//
// A guest can look unhealthy whenever it likes, so what that leads to is
// bounded: so many repairs in an hour, no snapshot twice, and each rollback
// keeps what it leaves.
//
// watchdog must not know how a machine is asked or repaired. A Dog belongs to
// one goroutine, but Unhealthy may be called by any.
package watchdog

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bulkhead/internal/sandbox/schedule"
)

const (
	// misses is how many looks in a row may find an agent silent, ailments how
	// many may find a machine ailing: files that matter are replaced in a moment.
	misses, ailments = 3, 2
	// maxRepairs is how often an hour a machine is repaired.
	maxRepairs = 3
	// answerLimit is how long an agent may take to answer: 2 ms measured at rest,
	// under a translator.
	answerLimit = 10 * time.Second
)

// Found is the type of the event that a machine is unhealthy.
const Found = "sandbox.unhealthy"

// Watched is a sandbox that should work.
type Watched struct {
	ID     string
	Remedy schedule.Remedy
	// Crashed says how its VMM ended; "" while it runs.
	Crashed string
}

// Past is a snapshot that a machine could go back to.
type Past struct {
	ID    string
	Taken time.Time
}

// Sandboxes is what a Dog watches.
type Sandboxes interface {
	// Watched lists the sandboxes whose machines run or have crashed.
	Watched(ctx context.Context) []Watched
	// Pulse asks the agent what keeps its machine from work; "" for nothing.
	Pulse(ctx context.Context, id string) (ailment string, err error)
	// Pasts lists the snapshots to go back to, newest first.
	Pasts(ctx context.Context, id string) ([]Past, error)
	Reboot(ctx context.Context, id string) error
	Rollback(ctx context.Context, id, snapshot string) error
	// Tell records what is found and done, for a sandbox.
	Tell(ctx context.Context, typ, id string, fields map[string]string)
}

// Dog watches sandboxes.
type Dog struct {
	Sandboxes Sandboxes
	Clock     func() time.Time
	Log       *slog.Logger

	repairs sync.WaitGroup

	mu    sync.Mutex
	known map[string]*patient // guarded by mu
}

// patient is what is known of a machine. The Dog has it, or its repair while
// that goes on.
type patient struct {
	// silent and ailing count looks in a row; since is when the first was.
	silent, ailing int
	since          time.Time
	// unhealthy is why; "" for well.
	unhealthy string
	// repairing is set while a repair goes on.
	repairing bool
	// repaired are the times of repairs, tried the snapshots of those.
	repaired []time.Time
	tried    map[string]bool
}

// Unhealthy says why a machine is not healthy; "" if nothing is known.
func (d *Dog) Unhealthy(id string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.known[id]; p != nil {
		return p.unhealthy
	}
	return ""
}

// Wait waits for the repairs that have begun.
func (d *Dog) Wait() { d.repairs.Wait() }

// found is what a look finds.
type found struct {
	Watched
	ailment string
	err     error
}

// Look looks once at every machine, side by side. Repairs go on after it.
func (d *Dog) Look(ctx context.Context) {
	all := d.Sandboxes.Watched(ctx)
	finds := make([]found, len(all))
	var looks sync.WaitGroup
	for i, w := range all {
		finds[i].Watched = w
		if w.Crashed == "" {
			looks.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, answerLimit)
				defer cancel()
				finds[i].ailment, finds[i].err = d.Sandboxes.Pulse(ctx, w.ID)
			})
		}
	}
	looks.Wait()
	if ctx.Err() != nil {
		return
	}
	d.mu.Lock()
	before := d.known
	d.known = map[string]*patient{}
	for _, w := range all {
		p := before[w.ID]
		if p == nil {
			p = &patient{tried: map[string]bool{}}
		}
		d.known[w.ID] = p
	}
	d.mu.Unlock()
	for _, f := range finds {
		d.judge(ctx, f)
	}
}

// judge draws the conclusion from a look.
func (d *Dog) judge(ctx context.Context, f found) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.known[f.ID]
	if p.repairing {
		return
	}
	was := p.unhealthy
	p.unhealthy = p.diagnose(f, d.Clock())
	switch {
	case p.unhealthy == "" && was != "":
		d.Sandboxes.Tell(ctx, "sandbox.healthy", f.ID, nil)
	case p.unhealthy != "" && was == "":
		d.Log.WarnContext(ctx, "machine is not healthy", "sandbox", f.ID, "reason", p.unhealthy)
		d.Sandboxes.Tell(ctx, Found, f.ID, map[string]string{"reason": p.unhealthy, "remedy": string(f.Remedy)})
	}
	if p.unhealthy != "" && f.Remedy != "" && p.mayRepair(d.Clock()) {
		p.repairing = true
		p.repaired = append(p.repaired, d.Clock())
		d.repairs.Go(func() { d.repair(ctx, f.Watched, p) })
	}
}

// diagnose says why a machine is unhealthy after a look; "" if it is not, or
// that is not certain yet.
func (p *patient) diagnose(f found, now time.Time) string {
	if f.Crashed != "" || f.err != nil || f.ailment != "" {
		if p.since.IsZero() {
			p.since = now
		}
	} else {
		p.since = time.Time{}
	}
	if f.err == nil || f.Crashed != "" {
		p.silent = 0
	} else {
		p.silent++
	}
	if f.ailment == "" {
		p.ailing = 0
	} else {
		p.ailing++
	}
	switch {
	case f.Crashed != "":
		return f.Crashed
	case p.silent >= misses:
		return "its agent does not answer"
	case p.ailing >= ailments:
		return f.ailment
	case p.since.IsZero():
		return ""
	}
	return p.unhealthy
}

// mayRepair reports whether there were not too many repairs within the hour,
// and forgets those before.
func (p *patient) mayRepair(now time.Time) bool {
	for len(p.repaired) > 0 && now.Sub(p.repaired[0]) >= time.Hour {
		p.repaired = p.repaired[1:]
	}
	if len(p.repaired) == 0 {
		clear(p.tried)
	}
	return len(p.repaired) < maxRepairs
}

func (d *Dog) repair(ctx context.Context, w Watched, p *patient) {
	how, err := "reboot", error(nil)
	if w.Remedy == schedule.Rollback {
		how, err = d.rollback(ctx, w.ID, p)
	} else {
		err = d.Sandboxes.Reboot(ctx, w.ID)
	}
	fields := map[string]string{"remedy": how, "reason": p.unhealthy}
	typ := "sandbox.repaired"
	if err != nil {
		typ, fields["err"] = "sandbox.not_repaired", err.Error()
		d.Log.ErrorContext(ctx, "machine is not repaired", "sandbox", w.ID, "err", err)
	}
	if ctx.Err() == nil {
		d.Sandboxes.Tell(ctx, typ, w.ID, fields)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p.repairing, p.silent, p.ailing = false, 0, 0
	if err == nil { // whether it is well, the next looks will say
		p.unhealthy, p.since = "", time.Time{}
	}
}

// rollback goes back to the newest snapshot from before the illness that has
// not been tried in this hour.
func (d *Dog) rollback(ctx context.Context, id string, p *patient) (how string, err error) {
	pasts, err := d.Sandboxes.Pasts(ctx, id)
	if err != nil {
		return "rollback", err
	}
	for _, s := range pasts {
		if p.tried[s.ID] || !s.Taken.Before(p.since) {
			continue
		}
		p.tried[s.ID] = true
		return "rollback to " + s.ID, d.Sandboxes.Rollback(ctx, id, s.ID)
	}
	return "rollback", fmt.Errorf("there is no snapshot to go back to")
}
