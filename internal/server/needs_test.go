package server_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"bulkhead/internal/server"
	"bulkhead/internal/server/page"
	"bulkhead/internal/server/page/desk"
	"bulkhead/internal/server/page/overview"
	"bulkhead/internal/server/page/session"
	"bulkhead/internal/server/page/terminal"
)

// TestEveryRouteHasANeed: one without cannot be added, and the table has none
// that is not there.
func TestEveryRouteHasANeed(t *testing.T) {
	console := &page.Page{Sessions: &session.Sessions{}, Live: &overview.Live{}, Desk: &desk.Desk{}, Terminals: &terminal.Room{}}
	s := server.New(server.Options{E2B: fake{}.e2b(), More: console.Routes(), Log: quietLog()})
	for _, pattern := range server.Needs() {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.NewReplacer("{ref}", "i1", "{port}", "80", "{snapshot}", "s1", "{name}", "n", "{pid}", "7", "{file}", "app.js", "{$}", "").Replace(path)
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
