package server_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"bulkhead/internal/server"
)

// TestEveryRouteHasANeed: one without cannot be added, and the table has none
// that is not there.
func TestEveryRouteHasANeed(t *testing.T) {
	s := server.New(server.Options{E2B: fake{}.e2b(), Log: quietLog()})
	for _, pattern := range server.Needs() {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.NewReplacer("{ref}", "i1", "{port}", "80", "{snapshot}", "s1", "{name}", "n").Replace(path)
		if got := s.RouteOf(httptest.NewRequest(method, path, nil)); got != pattern {
			t.Errorf("%s is answered by %q", pattern, got)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a route without a need was added")
		}
	}()
	s.Add("GET /sandboxes/{ref}/forgotten")
}
