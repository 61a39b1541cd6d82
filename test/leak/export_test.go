package leak

import "testing"

// CheckAtOnce is Check without waiting for anything to go away.
func CheckAtOnce(t testing.TB) { check(t, 0, nil) }
