package ingress_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"bulkhead/internal/server/ingress"
)

// FuzzFind: whatever a request says, what is found names one port of what can be
// a sandbox, and a host name of a sandbox's own is never overruled by headers.
func FuzzFind(f *testing.F) {
	for _, seed := range [][3]string{
		{"localhost:3000", "i1", "49983"}, {"8000-i1.localhost", "i2", "1"}, {"127.0.0.1", "i1@monday", "80"}, {"[::1]:3000", "", "80"},
		{"sandbox.bulkhead.example", "../x", "0"}, {"99999-i1.x", "", ""}, {"8000-i1", "", ""}, {"8000-i1.x.", "a", "1"}, {"-1-i.x", "a", "1"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, host, id, port string) {
		r := &http.Request{Host: host, Header: http.Header{ingress.SandboxHeader: {id}, ingress.PortHeader: {port}}}
		a, ok, err := ingress.Find(r)
		if !ok && (err != nil || a != ingress.Address{}) {
			t.Fatalf("%+v, %v for the host itself", a, err)
		}
		if !ok || err != nil {
			return
		}
		if a.Port < 1 || a.Port > 65535 || a.Ref == "" || strings.Trim(a.Ref, "abcdefghijklmnopqrstuvwxyz0123456789-@") != "" {
			t.Errorf("found %+v", a)
		}
		r.Header = http.Header{}
		if named, ok, _ := ingress.Find(r); ok && named != a {
			t.Errorf("%s is %+v, with headers %+v", host, named, a)
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
