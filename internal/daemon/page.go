package daemon

import (
	"context"
	"iter"
	"sync"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon/front"
	"bulkhead/internal/reclaim"
	"bulkhead/internal/server"
	"bulkhead/internal/server/page"
	"bulkhead/internal/server/page/desk"
	"bulkhead/internal/server/page/overview"
	"bulkhead/internal/server/page/session"
	"bulkhead/internal/server/page/terminal"
)

// page makes the console, which shows what f does.
func (d *Daemon) page(f *front.Front) *page.Page {
	o := f.Options(d.Log)
	sampler := &overview.Sampler{
		Source: source{f, o}, ProcessorTime: reclaim.ProcessorTime,
		LastEvent: func() uint64 { seq, _ := f.Events.Audit.Head(); return seq }, Clock: d.Clock,
	}
	return &page.Page{
		Sessions: &session.Sessions{Keys: f.Keys, Clock: d.Clock},
		Live: &overview.Live{Sampler: sampler, Events: func(ctx context.Context, since uint64) iter.Seq2[client.Event, error] {
			return o.Events(ctx, server.EventQuery{Since: since, Follow: true})
		}},
		Desk:      &desk.Desk{Transport: o.Sandboxes.Transport},
		Terminals: &terminal.Room{Transport: o.Sandboxes.Transport},
		Replay:    o.Lessons.Replay,
		Doctor:    func(context.Context) []client.Check { return d.findings() },
	}
}

// findings are those of Doctor, as the console shows them.
func (d *Daemon) findings() []client.Check {
	all := []client.Check{}
	for _, c := range Doctor(d.Config) {
		all = append(all, client.Check{Name: c.Name, Status: string(c.Status), Detail: c.Detail, Mend: c.Mend})
	}
	return all
}

// record samples what sandboxes take, for the hour that the console shows,
// until stop.
func (d *Daemon) record(ctx context.Context, p *page.Page) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(reclaim.Every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := p.Live.Record(ctx); err != nil {
					d.Log.WarnContext(ctx, "what sandboxes take is not recorded", "err", err)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); done.Wait() }
}
