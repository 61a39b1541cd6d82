// Package wire says how what the heart knows is written for clients, and how what
// they write is read.
//
// It is pure: it asks nobody and decides nothing.
package wire

import (
	"time"

	"bulkhead/client"
	"bulkhead/internal/sandbox/schedule"
)

// Wanted reads a schedule as clients write it.
func Wanted(req client.Schedule) schedule.Schedule {
	s := schedule.Schedule{
		Every: Seconds(req.EverySeconds), Idle: Seconds(req.IdleSeconds), Suspend: Seconds(req.SuspendSeconds),
		Keep:      schedule.Keep(req.Keep),
		KeepAlive: req.KeepAlive, Wake: req.Wake, Expiry: schedule.Expiry(req.Expiry), Remedy: schedule.Remedy(req.OnUnhealthy),
	}
	if req.ExpiresAt != nil {
		s.Expires = *req.ExpiresAt
	}
	if req.Before != nil {
		s.Before = schedule.Before{
			Commands: req.Before.Commands, Contact: req.Before.Contact, Interval: Seconds(req.Before.IntervalSeconds),
		}
	}
	return s
}

// Schedule writes a schedule as clients read it; nil if there is none.
func Schedule(s schedule.Schedule) *client.Schedule {
	if s.IsZero() {
		return nil
	}
	c := &client.Schedule{
		EverySeconds: int(s.Every / time.Second), IdleSeconds: int(s.Idle / time.Second), SuspendSeconds: int(s.Suspend / time.Second),
		Keep:      client.Keep(s.Keep),
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

// Seconds are so many.
func Seconds(n int) time.Duration { return time.Duration(n) * time.Second }
