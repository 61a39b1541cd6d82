package show

import (
	"fmt"
	"strings"
	"time"

	"bulkhead/client"
)

// Schedule says what is done while nobody looks, a line for each thing.
func Schedule(s *client.Schedule) []string {
	if s == nil {
		return []string{"nothing"}
	}
	var parts []string
	say := func(when bool, format string, args ...any) {
		if when {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	say(s.EverySeconds > 0, "a snapshot every %s; the last %d, hourly %d, daily %d stay",
		seconds(s.EverySeconds), s.Keep.Last, s.Keep.Hourly, s.Keep.Daily)
	if b := s.Before; b != nil {
		say(len(b.Commands) > 0, "a snapshot before %s", strings.Join(b.Commands, ", "))
		say(b.Contact, "a snapshot before a first connection")
		say(len(b.Commands) > 0 || b.Contact, "that at most every %s", seconds(b.IntervalSeconds))
	}
	say(s.SuspendSeconds > 0, "stopped in memory when idle for %s", seconds(s.SuspendSeconds))
	say(s.IdleSeconds > 0, "paused when idle for %s", seconds(s.IdleSeconds))
	say(s.IdleSeconds > 0 && s.SuspendSeconds == 0, "stopped in memory before that")
	say(s.KeepAlive, "kept alive")
	say(s.Wake != "", "woken at %s", s.Wake)
	if s.ExpiresAt != nil {
		say(true, "%sd at %s", s.Expiry, s.ExpiresAt.Local().Format(time.DateTime))
	}
	say(s.OnUnhealthy != "", "when broken: %s", s.OnUnhealthy)
	if len(parts) == 0 {
		return []string{"nothing"}
	}
	return parts
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
