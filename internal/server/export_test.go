package server

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// ParseRef is for the fuzz tests.
var ParseRef = parseRef

// Impatient has bodies arrive at once.
func (s *Server) Impatient() {
	s.bodyTimeout, s.still, s.ingress.Patience = time.Millisecond, time.Millisecond, time.Millisecond
}

// Hurry has headers arrive at once.
func (s *Server) Hurry() { s.headerTimeout = time.Millisecond }

// Shun bounds requests of strangers into guests.
func (s *Server) Shun(most int64) { s.ingress.Strangers = most }

// Needs lists the routes that the table has.
func Needs() (patterns []string) {
	for _, table := range []map[string]need{needs(), needsOfE2B(), needsOfPage()} {
		patterns = slices.AppendSeq(patterns, maps.Keys(table))
	}
	return patterns
}

// RouteOf returns the route that answers a request.
func (s *Server) RouteOf(r *http.Request) string {
	_, pattern := s.mux.Handler(r)
	return pattern
}

// Add adds a route.
func (s *Server) Add(pattern string) { s.handle(pattern, func(http.ResponseWriter, *http.Request) {}) }
