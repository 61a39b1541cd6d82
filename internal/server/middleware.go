package server

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/ingress"
	"bulkhead/internal/server/reply"
)

// Handler returns the API behind a guard, without a listener.
func (s *Server) Handler(guard func(http.Handler) http.Handler) http.Handler {
	guarded := guard(http.HandlerFunc(s.answer))
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.answering.Add(1)
		defer s.answering.Done()
		w := &reply.Answer{ResponseWriter: rw, Route: "refused at the door", Op: reply.Op(r)}
		r = reply.Identify(w, r)
		began := time.Now()
		defer func() {
			took := time.Since(began)
			if s.Metrics != nil {
				s.Metrics.Answered(w.Route, w.Status, took)
			}
			s.Log.DebugContext(r.Context(), "request answered", "request", reply.RequestID(r.Context()),
				"op", fmt.Sprintf("%s %d", w.Op, w.Status), "duration", took)
		}()
		guarded.ServeHTTP(w, r)
	})
}

// answer answers a request that the guard has let pass.
func (s *Server) answer(rw http.ResponseWriter, r *http.Request) {
	w, ok := rw.(*reply.Answer)
	if !ok { // the guard has put something around it
		w = &reply.Answer{ResponseWriter: rw}
	}
	defer func() {
		if thrown := recover(); thrown != nil {
			s.recovered(w, r, thrown)
		}
	}()
	s.dispatch(w, r)
}

// Root is the guard of a door by which the operator alone comes.
func Root(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(auth.With(r.Context(), auth.Operator())))
	})
}

// recovered answers a request whose handler panicked.
func (s *Server) recovered(w *reply.Answer, r *http.Request, thrown any) {
	if thrown == http.ErrAbortHandler {
		panic(thrown) // how the connection is cut, see package net/http
	}
	err := fmt.Errorf("panic: %v\n%s", thrown, debug.Stack())
	s.Log.ErrorContext(r.Context(), "request panicked", "request", reply.RequestID(r.Context()), "op", reply.Op(r), "err", err)
	if w.Status != 0 {
		panic(http.ErrAbortHandler)
	}
	e := reply.Describe(r.Context(), fmt.Errorf("panic in %s: %v", reply.Op(r), thrown))
	if e.Hint == "" {
		e.Hint = "look for the request id in the daemon's log"
	}
	reply.JSON(w, e.Code, e)
}

// dispatch finds out whom a request is for.
func (s *Server) dispatch(w *reply.Answer, r *http.Request) {
	if a, ok, err := s.ingress.Find(r); ok {
		w.Route = "port of a sandbox"
		if a.Port == ingress.AgentPort {
			w.Route = "agent of a sandbox"
		}
		ctx, cancel := s.streamContext(r.Context())
		defer cancel()
		s.ingress.Serve(w, r.WithContext(ctx), a, err)
		return
	}
	h, pattern := s.mux.Handler(r)
	if pattern == "" {
		w.Route = "none"
		s.noRoute(w, r, h)
		return
	}
	w.Route, w.Op = pattern, pattern
	s.mux.ServeHTTP(w, r)
}

// noRoute answers in JSON what the mux would answer in plain text: 404, or
// 405 with the methods that there are.
func (s *Server) noRoute(w http.ResponseWriter, r *http.Request, h http.Handler) {
	dry := &dryRun{header: w.Header()}
	h.ServeHTTP(dry, r)
	dry.header.Del("Content-Type")
	reply.JSON(w, dry.status, &client.Error{
		Code: dry.status, Message: fmt.Sprintf("no route %s %q", r.Method, r.URL.Path),
		Kind: string(fault.NotFound), RequestID: reply.RequestID(r.Context()),
	})
}

// dryRun keeps an answer's status and headers and drops the rest.
type dryRun struct {
	header http.Header
	status int
}

// Header implements http.ResponseWriter.
func (d *dryRun) Header() http.Header { return d.header }

// WriteHeader implements http.ResponseWriter.
func (d *dryRun) WriteHeader(status int) { d.status = status }

// Write implements http.ResponseWriter.
func (d *dryRun) Write(b []byte) (int, error) { return len(b), nil }
