package front

import (
	"context"
	"time"

	"bulkhead/client"
	"bulkhead/internal/sandbox/schedule"
)

// SetSchedule implements server.Power.
func (s sandboxes) SetSchedule(ctx context.Context, ref string, req client.Schedule) (client.Sandbox, error) {
	b, err := s.Manager.SetSchedule(ctx, ref, wanted(req))
	if err != nil {
		return client.Sandbox{}, err
	}
	return s.sandbox(ctx, b)
}

// wanted reads a schedule as clients write it.
func wanted(req client.Schedule) schedule.Schedule {
	s := schedule.Schedule{
		Every: seconds(req.EverySeconds), Idle: seconds(req.IdleSeconds), Suspend: seconds(req.SuspendSeconds), Keep: schedule.Keep(req.Keep),
		KeepAlive: req.KeepAlive, Wake: req.Wake, Expiry: schedule.Expiry(req.Expiry), Remedy: schedule.Remedy(req.OnUnhealthy),
	}
	if req.ExpiresAt != nil {
		s.Expires = *req.ExpiresAt
	}
	if req.Before != nil {
		s.Before = schedule.Before{
			Commands: req.Before.Commands, Contact: req.Before.Contact, Interval: seconds(req.Before.IntervalSeconds),
		}
	}
	return s
}

// scheduleOf writes a schedule as clients read it; nil if there is none.
func scheduleOf(s schedule.Schedule) *client.Schedule {
	if s.IsZero() {
		return nil
	}
	c := &client.Schedule{
		EverySeconds: int(s.Every / time.Second), IdleSeconds: int(s.Idle / time.Second), SuspendSeconds: int(s.Suspend / time.Second), Keep: client.Keep(s.Keep),
		KeepAlive: s.KeepAlive, Wake: s.Wake, Expiry: string(s.Expiry), OnUnhealthy: string(s.Remedy),
	}
	if !s.Expires.IsZero() {
		c.ExpiresAt = &s.Expires
	}
	if b := s.Before; len(b.Commands) > 0 || b.Contact {
		c.Before = &client.Before{Commands: b.Commands, Contact: b.Contact, IntervalSeconds: int(b.Interval / time.Second)}
	}
	return c
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
