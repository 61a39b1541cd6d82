package server_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/server"
)

// FuzzParseRef: what passes can stand in a path, a host name, a log and a
// command line as it is.
func FuzzParseRef(f *testing.F) {
	for _, seed := range []string{"i1", "web", "a-b", "", "-a", "..", "a/b", "A", "é", "a\n", strings.Repeat("a", 64)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := server.ParseRef("sandbox", s)
		if err != nil {
			if !fault.Is(err, fault.Invalid) || got != "" || strings.Contains(err.Error(), "\n") || len(err.Error()) > 512 {
				t.Errorf("refusal of %q = %q, %v", s, got, err)
			}
			return
		}
		if got != s || len(s) > 63 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || s[0] == '-' {
			t.Errorf("%q passed as %q", s, got)
		}
	})
}

// FuzzHostOnly: no path that passes reaches a service for the host only,
// however the agent's router reads it.
func FuzzHostOnly(f *testing.F) {
	for _, seed := range []string{
		"/bulkhead.machine.v1.Machine/Freeze", "//bulkhead.machine.v1.Machine/Freeze", "/a/../bulkhead.machine.v1.Machine/Freeze",
		"/%62ulkhead.machine.v1.Machine/Freeze", "/process.Process/Start", "/./bulkhead.machine.v1.Machine/x", "/%2fbulkhead.machine.v1.Machine/x",
	} {
		f.Add(seed)
	}
	reached := false
	mux := http.NewServeMux()
	mux.HandleFunc("/bulkhead.machine.v1.Machine/", func(http.ResponseWriter, *http.Request) { reached = true })
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || server.IsHostOnly(u.Path) {
			return
		}
		for range 3 { // the router may redirect to the path that it prefers
			reached = false
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, &http.Request{Method: "POST", URL: u, Header: http.Header{}})
			if reached {
				t.Fatalf("%q passed and reached the service", path)
			}
			if u, err = url.ParseRequestURI(w.Header().Get("Location")); err != nil {
				return
			}
		}
	})
}
