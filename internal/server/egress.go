package server

import (
	"net/http"

	"bulkhead/client"
)

func (s *Server) egressRoutes() {
	s.call("GET /sandboxes/{ref}/egress", 200, s.egress)
	s.call("PUT /sandboxes/{ref}/egress", 200, s.setEgress)
	s.call("POST /sandboxes/{ref}/egress/rules", 200, s.addEgressRule)
	s.call("POST /sandboxes/{ref}/egress/test", 200, s.testEgress)
	s.call("POST /sandboxes/{ref}/egress/answer", 204, s.answerEgress)
	s.call("GET /egress/pending", 200, func(r *http.Request) (any, error) {
		return orEmpty(s.Egress.EgressPending(r.Context()))
	})
	s.call("GET /sandboxes/{ref}/blast-radius", 200, s.blastRadius)
}

func (s *Server) egress(r *http.Request) (any, error) {
	ref, err := sandboxRef(r)
	if err != nil {
		return nil, err
	}
	return s.Egress.Egress(r.Context(), ref)
}

func (s *Server) setEgress(r *http.Request) (any, error) {
	ref, err := sandboxRef(r)
	if err != nil {
		return nil, err
	}
	var req client.EgressPolicyRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	return s.Egress.SetEgress(r.Context(), ref, req)
}

func (s *Server) addEgressRule(r *http.Request) (any, error) {
	ref, err := sandboxRef(r)
	if err != nil {
		return nil, err
	}
	var req client.EgressRuleRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	return s.Egress.AddEgressRule(r.Context(), ref, req)
}

func (s *Server) testEgress(r *http.Request) (any, error) {
	ref, err := sandboxRef(r)
	if err != nil {
		return nil, err
	}
	var req client.EgressVerdict
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	return s.Egress.TestEgress(r.Context(), ref, req.Destination)
}

func (s *Server) answerEgress(r *http.Request) (any, error) {
	ref, err := sandboxRef(r)
	if err != nil {
		return nil, err
	}
	var a client.EgressAnswer
	if err := readJSON(r, &a); err != nil {
		return nil, err
	}
	return nil, s.Egress.AnswerEgress(r.Context(), ref, a)
}

func (s *Server) blastRadius(r *http.Request) (any, error) {
	ref, err := sandboxRef(r)
	if err != nil {
		return nil, err
	}
	return s.Egress.BlastRadius(r.Context(), ref)
}
