package sandbox

import (
	"context"

	"bulkhead/internal/pool"
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

// keep makes a past a snapshot, while the machine goes on already.
func (b *box) keep(ctx context.Context, p *past) {
	ctx = context.WithoutCancel(ctx)
	b.keeping.Go(func() {
		_, err := b.m.Machines.Commit(ctx, p.draft, p.meta)
		if err == nil {
			err = b.history().Thin(ctx, CauseBeforeRollback, schedule.Keep{Last: keepPasts}, b.record().Head)
		}
		if err != nil {
			b.log.WarnContext(ctx, "what a rollback left is not kept", "err", err)
		}
		if err := p.draft.Discard(ctx); err != nil {
			b.log.WarnContext(ctx, "snapshot draft not discarded", "err", err)
		}
	})
}
