package server

import (
	"context"

	"bulkhead/client"
)

func (s *Server) powerRoutes() {
	s.call("POST /sandboxes/{ref}/start", 200, about(func(ctx context.Context, ref string) (any, error) {
		return s.Power.Start(ctx, ref)
	}))
	s.call("POST /sandboxes/{ref}/restart", 200, about(func(ctx context.Context, ref string) (any, error) {
		return s.Power.Restart(ctx, ref)
	}))
	s.call("PUT /sandboxes/{ref}/schedule", 200, asked(func(ctx context.Context, ref string, req client.Schedule) (any, error) {
		return s.Power.SetSchedule(ctx, ref, req)
	}))
}
