package remote

import "net/http"

// Patient is for tests that have no network.
func Patient(t http.RoundTripper) http.RoundTripper { return &patient{RoundTripper: t} }

// GuestHost is for tests without names.
var GuestHost = guestHost
