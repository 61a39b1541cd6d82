package server

import (
	"context"
	"net/http"

	"bulkhead/client"
)

func (s *Server) egressRoutes() {
	s.call("GET /sandboxes/{ref}/egress", 200, about(func(ctx context.Context, ref string) (any, error) {
		return s.Egress.Egress(ctx, ref)
	}))
	s.call("PUT /sandboxes/{ref}/egress", 200, asked(func(ctx context.Context, ref string, req client.EgressPolicyRequest) (any, error) {
		return s.Egress.SetEgress(ctx, ref, req)
	}))
	s.call("POST /sandboxes/{ref}/egress/rules", 200, asked(func(ctx context.Context, ref string, req client.EgressRuleRequest) (any, error) {
		return s.Egress.AddEgressRule(ctx, ref, req)
	}))
	s.call("POST /sandboxes/{ref}/egress/test", 200, asked(func(ctx context.Context, ref string, req client.EgressTestRequest) (any, error) {
		return s.Egress.TestEgress(ctx, ref, req)
	}))
	s.call("POST /sandboxes/{ref}/egress/answer", 204, asked(func(ctx context.Context, ref string, req client.EgressAnswer) (any, error) {
		return nil, s.Questions.AnswerEgress(ctx, ref, req)
	}))
	s.call("POST /sandboxes/{ref}/egress/ask", 200, asked(func(ctx context.Context, ref string, req client.EgressVerdict) (any, error) {
		return s.Questions.AskEgress(ctx, ref, req.Destination)
	}))
	s.call("GET /egress/pending", 200, func(r *http.Request) (any, error) {
		return orEmpty(s.Questions.EgressPending(r.Context()))
	})
	s.call("GET /sandboxes/{ref}/blast-radius", 200, about(func(ctx context.Context, ref string) (any, error) {
		return s.Egress.BlastRadius(ctx, ref)
	}))
	s.lessonRoutes()
}

func (s *Server) lessonRoutes() {
	s.call("POST /sandboxes/{ref}/egress/learn", 204, asked(func(ctx context.Context, ref string, req client.EgressLearnRequest) (any, error) {
		return nil, s.Lessons.Learn(ctx, ref, req.On)
	}))
	s.call("GET /sandboxes/{ref}/egress/learn", 200, about(func(ctx context.Context, ref string) (any, error) {
		return s.Lessons.Learned(ctx, ref)
	}))
	s.call("POST /sandboxes/{ref}/egress/replay", 200, asked(func(ctx context.Context, ref string, req client.EgressPolicyRequest) (any, error) {
		return orEmpty(s.Lessons.Replay(ctx, ref, req))
	}))
}
