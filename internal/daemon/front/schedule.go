package front

import (
	"context"
	"time"

	"bulkhead/client"
	"bulkhead/internal/sandbox/schedule"
)

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
