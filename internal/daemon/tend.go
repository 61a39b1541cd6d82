package daemon

import (
	"context"
	"time"

	"bulkhead/client"
	"bulkhead/internal/reclaim"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/schedule"
)

// tended is what the Keeper looks after.
type tended struct{ *api }

func (t tended) Tended(ctx context.Context) []reclaim.Tended {
	var all []reclaim.Tended
	for _, s := range t.Scheduled() {
		cpu, err := reclaim.ProcessorTime(s.PID)
		if err != nil {
			continue // it has just ended
		}
		moved, err := t.border.Moved(string(s.ID))
		if err != nil {
			t.daemon.Log.WarnContext(ctx, "traffic is not known", "sandbox", string(s.ID), "err", err)
			continue
		}
		all = append(all, reclaim.Tended{
			ID: string(s.ID), Schedule: s.Schedule, Snapshot: s.Latest,
			Use: reclaim.Use{CPU: cpu, Moved: moved, Asked: s.Asked, Open: int(s.Open)},
		})
	}
	return all
}

func (t tended) Snapshot(ctx context.Context, id string, keep schedule.Keep) error {
	_, err := t.SnapshotFor(ctx, id, sandbox.CauseSchedule, keep)
	return err
}

func (t tended) Pause(ctx context.Context, id string) error {
	t.daemon.Log.InfoContext(ctx, "machine is idle", "sandbox", id)
	return t.PauseIdle(ctx, id)
}

// SetSchedule implements server.Power.
func (s sandboxes) SetSchedule(ctx context.Context, ref string, req client.Schedule) (client.Sandbox, error) {
	b, err := s.Manager.SetSchedule(ctx, ref, schedule.Schedule{
		Every: time.Duration(req.EverySeconds) * time.Second, Idle: time.Duration(req.IdleSeconds) * time.Second,
		Keep: schedule.Keep(req.Keep),
	})
	if err != nil {
		return client.Sandbox{}, err
	}
	return s.sandbox(ctx, b)
}

// scheduleOf writes a schedule as clients read it; nil if there is none.
func scheduleOf(s schedule.Schedule) *client.Schedule {
	if s == (schedule.Schedule{}) {
		return nil
	}
	return &client.Schedule{
		EverySeconds: int(s.Every / time.Second), IdleSeconds: int(s.Idle / time.Second), Keep: client.Keep(s.Keep),
	}
}
