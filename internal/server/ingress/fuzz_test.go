package ingress_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"bulkhead/internal/server/ingress"
)

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
		if err != nil || ingress.IsHostOnly(u.Path) {
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
