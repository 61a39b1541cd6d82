package policy_test

import (
	"net/netip"
	"strings"
	"testing"

	"bulkhead/internal/egress/policy"
	"bulkhead/internal/fault"
)

func TestParseDestination(t *testing.T) {
	for text, want := range map[string]policy.Destination{
		"API.example.com:443":           {Name: "api.example.com", Port: 443},
		"192.0.2.1:80":                  {Addr: netip.MustParseAddr("192.0.2.1"), Port: 80},
		"[2001:db8::1]:80":              {Addr: netip.MustParseAddr("2001:db8::1"), Port: 80},
		"example.com":                   {},
		"example.com:0":                 {},
		"example.com:70000":             {},
		"example.com:1-2":               {},
		":443":                          {},
		"two words:443":                 {},
		"a\x1b[2J:443":                  {},
		"*.example.com:443":             {},
		strings.Repeat("a", 256) + ":1": {},
	} {
		got, err := policy.ParseDestination(text)
		if got != want || (err != nil) != (want == policy.Destination{}) || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
}
