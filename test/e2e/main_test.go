// Package e2e_test tells the product's stories on real microVMs, through the
// command line, as its users would.
package e2e_test

import (
	"fmt"
	"os"
	"testing"

	"bulkhead/internal/jail"
	"bulkhead/test/harness"
)

// shared is the daemon that most stories run on. Stories that kill daemons or
// need other settings start their own.
var shared *harness.Host

func TestMain(m *testing.M) {
	jail.Enter() // one story runs the daemon in this process
	os.Exit(run(m))
}

func run(m *testing.M) int {
	h, err := harness.Start("--ssh", "127.0.0.1:0", "--listen", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "start host:", err)
		return 1
	}
	shared = h
	code := m.Run()
	if err := h.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "close host:", err)
		code = max(code, 1)
	}
	return code
}

// host returns the shared host with its template, reporting to t.
func host(t *testing.T) *harness.Host {
	t.Helper()
	return shared.With(t).Base()
}
