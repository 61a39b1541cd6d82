package front

import (
	"context"

	"bulkhead/client"
	"bulkhead/internal/daemon/wire"
)

// SetSchedule implements server.Power.
func (s sandboxes) SetSchedule(ctx context.Context, ref string, req client.Schedule) (client.Sandbox, error) {
	b, err := s.Manager.SetSchedule(ctx, ref, wire.Wanted(req))
	if err != nil {
		return client.Sandbox{}, err
	}
	return s.sandbox(ctx, b)
}
