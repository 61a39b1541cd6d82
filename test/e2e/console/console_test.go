package console_test

import (
	"testing"
)

// An operator signs in, makes a sandbox, works in it, breaks it, sees that it is
// broken, rolls it back, answers for a connection that waits, and reads what
// happened; and one who may only look is offered nothing else.
func TestOperatorUndoes(t *testing.T) {
	prepare(t)
	h, url := serve(t)
	browse(t, "story.mjs", "BASE="+url, "ADMIN="+newKey(t, h, "console", "admin"), "READER="+newKey(t, h, "reader", "read"))
}
