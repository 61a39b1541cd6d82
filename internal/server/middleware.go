package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"
)

// Handler returns the API without a listener, and so without the check of who
// is speaking.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		id := newRequestID()
		w := &answer{ResponseWriter: rw}
		w.Header().Set("X-Request-Id", id)
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, id))
		began := time.Now()
		defer func() {
			thrown := recover()
			s.Log.DebugContext(r.Context(), "request answered", "request", id,
				"op", fmt.Sprintf("%s %d", opOf(r), w.status), "duration", time.Since(began))
			if thrown != nil {
				s.recovered(w, r, thrown)
			}
		}()
		s.dispatch(w, r)
	})
}

// recovered answers a request whose handler panicked.
func (s *Server) recovered(w *answer, r *http.Request, thrown any) {
	if thrown == http.ErrAbortHandler {
		panic(thrown) // how the connection is cut, see package net/http
	}
	err := fmt.Errorf("panic: %v\n%s", thrown, debug.Stack())
	s.Log.ErrorContext(r.Context(), "request panicked", "request", requestID(r.Context()), "op", opOf(r), "err", err)
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	writeJSON(w, http.StatusInternalServerError, &client.Error{
		Code: http.StatusInternalServerError, Kind: string(fault.Internal),
		Message: fmt.Sprintf("panic in %s: %v", opOf(r), thrown), RequestID: requestID(r.Context()),
		Hint: "look for the request id in the daemon's log",
	})
}

// dispatch finds out whom a request is for.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request) {
	if forGuest(r) {
		s.toGuest(w, r)
		return
	}
	if h, pattern := s.mux.Handler(r); pattern == "" {
		s.noRoute(w, r, h)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// noRoute answers in JSON what the mux would answer in plain text: 404, or
// 405 with the methods that there are.
func (s *Server) noRoute(w http.ResponseWriter, r *http.Request, h http.Handler) {
	dry := &dryRun{header: w.Header()}
	h.ServeHTTP(dry, r)
	dry.header.Del("Content-Type")
	writeJSON(w, dry.status, &client.Error{
		Code: dry.status, Message: fmt.Sprintf("no route %s %q", r.Method, r.URL.Path),
		Kind: string(fault.NotFound), RequestID: requestID(r.Context()),
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

// answer remembers whether an answer has begun. http.ResponseController
// reaches the connection through Unwrap.
type answer struct {
	http.ResponseWriter
	status int // 0 until then
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func begun(w http.ResponseWriter) bool {
	a, ok := w.(*answer)
	return ok && a.status != 0
}

type requestKey struct{}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

func newRequestID() string {
	b := make([]byte, 8)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b)
}

// opOf names what a request asks for: its route, or its path to a guest.
func opOf(r *http.Request) string {
	if r.Pattern != "" {
		return r.Pattern
	}
	const most = 128
	path := r.URL.Path
	if len(path) > most {
		path = strings.ToValidUTF8(path[:most], "") + "..."
	}
	return r.Method + " " + path
}
