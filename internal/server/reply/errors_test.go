package reply_test

import (
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/server/reply"
)

func TestStatusIsTotal(t *testing.T) {
	want := map[fault.Kind]int{
		fault.Invalid: 400, fault.NotFound: 404, fault.Exists: 409, fault.WrongState: 409,
		fault.Denied: 403, fault.Exhausted: 507, fault.Unavailable: 503, fault.Timeout: 504,
		fault.Unsupported: 501, fault.Corrupt: 500, fault.Limited: 429, fault.Internal: 500,
	}
	for _, kind := range fault.Kinds() {
		status, known := want[kind]
		if !known {
			t.Errorf("kind %s has no status in this table", kind)
		}
		if got := reply.Status(kind); got != status {
			t.Errorf("Status(%s) = %d, want %d", kind, got, status)
		}
	}
	if got, want := reply.Status("of a later release"), 500; got != want {
		t.Errorf("Status of an unknown kind = %d, want %d", got, want)
	}
}
