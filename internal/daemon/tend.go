package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"bulkhead/internal/daemon/store"
	"bulkhead/internal/egress"
	"bulkhead/internal/guest"
	"bulkhead/internal/meter"
	"bulkhead/internal/reclaim"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/recipe/layer"
	"bulkhead/internal/sandbox/schedule"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/watchdog"
)

// tend looks after sandboxes until stop, which waits for what is under way. After
// a restart of the host it also brings back what has ended with it.
func (d *Daemon) tend(ctx context.Context, t tended, dog *watchdog.Dog, restarted bool) (stop func()) {
	short := func() bool { return reclaim.Short() || d.Config.ReclaimHours.Contain(d.Clock()) }
	keeper := &reclaim.Keeper{Sandboxes: t, Clock: d.Clock, Log: d.Log, Short: short}
	ticks, end := d.Ticks, func() {}
	var ends <-chan time.Time
	if ticks == nil {
		ticker, often := time.NewTicker(reclaim.Every), time.NewTicker(reclaim.EveryEnd)
		ticks, ends, end = ticker.C, often.C, func() { ticker.Stop(); often.Stop() }
	}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-ticks:
				keeper.Look(ctx)
				dog.Look(ctx)
				t.meter.Look(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
	done.Go(func() { // by itself: a look takes as long as the slowest machine
		for {
			select {
			case <-ends:
				keeper.End(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
	done.Go(func() { t.watchGauge(ctx) })
	if restarted {
		done.Go(func() { t.bringBack(ctx) })
	}
	return func() {
		cancel()
		done.Wait()
		dog.Wait()
		end()
	}
}

// tended is what the Keeper looks after.
type tended struct {
	*heart
	border *egress.Perimeter
	events store.Events
	keys   *auth.Keys
	gauge  *reclaim.Gauge
	shelf  *layer.Shelf
	log    *slog.Logger
}

// gaugeEvery is how often the pool's room is looked at: it is to be told before
// machines are held for it.
const gaugeEvery = time.Second

func (t tended) watchGauge(ctx context.Context) {
	tick := time.NewTicker(gaugeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.readGauge(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// readGauge tells when the pool runs low.
func (t tended) readGauge(ctx context.Context) {
	u, err := t.Machines.Pool.Usage()
	if err != nil {
		t.log.ErrorContext(ctx, "pool does not say how full it is", "err", err)
		return
	}
	if level, changed := t.gauge.Read(u.Free, u.Reserved, u.Total); changed {
		t.log.WarnContext(ctx, "the pool's room is "+level, "free", u.Free, "total", u.Total)
		t.events.Append(ctx, "pool."+level, "", map[string]string{
			"free": strconv.FormatInt(u.Free, 10), "total": strconv.FormatInt(u.Total, 10),
		})
		if level == reclaim.Plenty {
			return
		}
		// What builds keep costs them time, and nothing else.
		if err := t.shelf.Clear(ctx); err != nil {
			t.log.WarnContext(ctx, "layers of builds stay", "err", err)
		}
	}
}

func (t tended) Tended(ctx context.Context) []reclaim.Tended {
	var all []reclaim.Tended
	for _, s := range t.Scheduled() {
		one := reclaim.Tended{
			ID: string(s.ID), Schedule: s.Schedule, Snapshot: s.Latest,
			Running: s.State == lifecycle.Running, Suspended: s.State == lifecycle.Suspended,
			Paused: s.State == lifecycle.Paused && !s.Stay,
		}
		if one.Running || one.Suspended {
			var err error
			if one.Use, err = t.use(s); err != nil {
				t.log.WarnContext(ctx, "what a machine does is not known", "sandbox", string(s.ID), "err", err)
				continue
			}
		}
		all = append(all, one)
	}
	return all
}

// Ended implements reclaim.Sandboxes.
func (t tended) Ended(now time.Time) []string {
	var ids []string
	for _, s := range t.List() {
		if e := s.Schedule.Expires; !e.IsZero() && !now.Before(e) {
			ids = append(ids, string(s.ID))
		}
	}
	return ids
}

func (t tended) use(s sandbox.Scheduled) (reclaim.Use, error) {
	cpu, err := reclaim.ProcessorTime(s.PID)
	if err != nil {
		return reclaim.Use{}, err
	}
	moved, err := t.border.Moved(string(s.ID))
	return reclaim.Use{CPU: cpu, Moved: moved, Asked: s.Asked, Open: int(s.Open)}, err
}

func (t tended) Snapshot(ctx context.Context, id string, keep schedule.Keep) error {
	_, err := t.SnapshotFor(ctx, id, sandbox.Why{Cause: sandbox.CauseSchedule, Keep: keep})
	return err
}

func (t tended) Balloon(ctx context.Context, id string, quiet bool) error {
	s, err := t.Get(id)
	if err != nil {
		return err
	}
	if !quiet {
		return t.Manager.Balloon(ctx, id, s.Size.MemoryMiB)
	}
	transport, err := t.Probe(ctx, id)
	if err != nil {
		return err
	}
	stats, err := guest.Stats(ctx, transport)
	if err != nil {
		return err
	}
	left := reclaim.Needs(s.Size.MemoryMiB, int(stats.GetMemUsedBytes()>>20))
	t.events.Append(ctx, "sandbox.quiet", id, map[string]string{
		"name": s.Name, "memory": fmt.Sprintf("%d of %d MiB", left, s.Size.MemoryMiB),
	})
	return t.Manager.Balloon(ctx, id, left)
}

func (t tended) Suspend(ctx context.Context, id string) error {
	return t.Manager.Suspend(ctx, id, "stopped in memory: nothing happens in it")
}

// Expire is the heart's; if it removes the sandbox, keys for that alone end too.
func (t tended) Expire(ctx context.Context, id string) error {
	err := t.heart.Expire(ctx, id)
	if _, there := t.Team(id); there {
		return err
	}
	return errors.Join(err, t.keys.Forget(ctx, id))
}

func (t tended) Pause(ctx context.Context, id string) error {
	t.log.InfoContext(ctx, "machine is idle", "sandbox", id)
	return t.PauseIdle(ctx, id)
}

// metered is what the Meter reads.
type metered struct{ *heart }

func (m metered) Running() []string {
	var ids []string
	for _, s := range m.List() {
		if s.State == lifecycle.Running {
			ids = append(ids, string(s.ID))
		}
	}
	return ids
}

func (m metered) Exists(id string) bool {
	_, err := m.Get(id)
	return err == nil
}

func (m metered) Read(ctx context.Context, id string) (meter.Reading, error) {
	transport, err := m.Probe(ctx, id)
	if err != nil {
		return meter.Reading{}, err
	}
	s, err := guest.Stats(ctx, transport)
	if err != nil {
		return meter.Reading{}, err
	}
	return meter.Reading{
		CPUs: int(s.GetCpuCount()), CPUBusy: time.Duration(s.GetCpuBusyNanos()),
		MemTotal: int64(s.GetMemTotalBytes()), MemUsed: int64(s.GetMemUsedBytes()), MemCache: int64(s.GetMemCacheBytes()),
		DiskTotal: int64(s.GetDiskTotalBytes()), DiskUsed: int64(s.GetDiskUsedBytes()),
	}, nil
}
