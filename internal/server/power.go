package server

import (
	"context"
	"net/http"

	"bulkhead/client"
)

func (s *Server) powerRoutes() {
	s.call("POST /sandboxes/{ref}/start", 200, about(func(ctx context.Context, ref string) (any, error) {
		return s.Power.Start(ctx, ref)
	}))
	s.call("POST /sandboxes/{ref}/restart", 200, about(func(ctx context.Context, ref string) (any, error) {
		return s.Power.Restart(ctx, ref)
	}))
	s.call("POST /sandboxes/{ref}/pause", 200, asked(func(ctx context.Context, ref string, req client.PauseRequest) (any, error) {
		return s.Power.Pause(ctx, ref, req)
	}))
	s.call("POST /sandboxes/{ref}/resume", 200, about(func(ctx context.Context, ref string) (any, error) {
		return s.Power.Resume(ctx, ref)
	}))
	s.call("PUT /sandboxes/{ref}/schedule", 200, asked(func(ctx context.Context, ref string, req client.Schedule) (any, error) {
		return s.Power.SetSchedule(ctx, ref, req)
	}))
	s.call("POST /sandboxes/{ref}/fork", 201, func(r *http.Request) (any, error) {
		req := client.ForkRequest{Count: 1}
		if err := readJSON(r, &req); err != nil {
			return nil, err
		}
		return orEmpty(s.Power.Fork(r.Context(), r.PathValue("ref"), req))
	})
}
