package server_test

import (
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
