package sandbox

import (
	"context"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/schedule"
)

// keepPasts is how many snapshots of what rollbacks left are kept for each
// sandbox, named ones aside.
const keepPasts = 4

// past is what a machine was before a rollback.
type past struct {
	draft *pool.Draft
	meta  pool.Meta
}

// salvage takes the moment of a machine that a rollback is about to end. It
// returns nil and why, if there is none to be had: a rollback waits for
// nothing.
func (b *box) salvage(ctx context.Context) (p *past, lost string) {
	l := b.machine()
	switch {
	case l == nil || l.Ended():
		return nil, "it did not run"
	case l.Guest == nil || l.Guest.Session().Err() != nil:
		return nil, "its agent is not connected"
	}
	draft, err := b.m.Machines.Salvage(ctx, l, b.poolID())
	if err != nil {
		b.log.WarnContext(ctx, "what a rollback leaves is not kept", "err", err)
		return nil, err.Error()
	}
	return &past{draft, b.meta("", CauseBeforeRollback)}, ""
}

// rollBack rolls a machine back to r.Snapshot, and keeps what it was unless that is
// to be given up. It fills in r.
func (b *box) rollBack(ctx context.Context, was Record, r *RolledBack, discard bool) (err error) {
	switch {
	case discard:
		r.Lost = "it was not to be"
	case was.State == lifecycle.Held:
		r.Lost = "the pool is full"
	case was.State == lifecycle.Paused:
		r.Kept = was.Head
	default:
		var p *past
		if p, r.Lost = b.salvage(ctx); p != nil {
			r.Kept = p.draft.ID()
			defer b.keep(ctx, p)
		}
	}
	r.Took, err = b.rollback(ctx, r.Snapshot)
	return err
}

// keep makes a past a snapshot, while the machine goes on already.
func (b *box) keep(ctx context.Context, p *past) {
	ctx = context.WithoutCancel(ctx)
	kept := make(chan struct{})
	b.mu.Lock()
	b.kept = kept
	b.mu.Unlock()
	b.keeping.Go(func() {
		defer close(kept)
		if _, err := b.m.Machines.Commit(ctx, p.draft, p.meta); err != nil {
			b.log.WarnContext(ctx, "what a rollback left is not kept", "err", err)
		}
		if err := p.draft.Discard(ctx); err != nil {
			b.log.WarnContext(ctx, "snapshot draft not discarded", "err", err)
		}
		b.m.owners.Go(b.thinPasts)
	})
}

// thinPasts removes older pasts. The owner does it, at its turn: a rollback may be
// about to go back to one.
func (b *box) thinPasts() {
	ctx := b.m.life
	err := b.hand(ctx, job{fits: func(rec Record) error {
		return b.history().Thin(ctx, CauseBeforeRollback, schedule.Keep{Last: keepPasts}, rec.Head)
	}})
	if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Unavailable) && ctx.Err() == nil { // it is gone, or we are
		b.log.WarnContext(ctx, "what earlier rollbacks left stays", "err", err)
	}
}

// named finds a snapshot, also a past that is being kept: its id has been told.
func (b *box) named(ctx context.Context, ref string) (pool.Snapshot, error) {
	s, err := b.history().Find(ref)
	b.mu.Lock()
	kept := b.kept
	b.mu.Unlock()
	if kept == nil || !fault.Is(err, fault.NotFound) {
		return s, err
	}
	select {
	case <-kept:
	case <-ctx.Done():
		return s, ctx.Err()
	}
	return b.history().Find(ref)
}
