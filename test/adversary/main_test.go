package adversary_test

import (
	"os"
	"testing"

	"bulkhead/internal/attack"
	"bulkhead/internal/jail"
)

// TestMain is whoever took over a VMM too.
func TestMain(m *testing.M) {
	jail.Enter()
	attack.Enter()
	os.Exit(m.Run())
}
