package daemon

import (
	"context"
	"sync"
	"time"

	"bulkhead/client"
	"bulkhead/internal/reclaim"
	"bulkhead/internal/server/page"
)

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
