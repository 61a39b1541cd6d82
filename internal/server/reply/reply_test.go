package reply_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"bulkhead/internal/server/reply"
)

// line is a connection that can be given up.
type line struct {
	*httptest.ResponseRecorder
	until time.Time
}

func (l *line) SetWriteDeadline(t time.Time) error {
	l.until = t
	return nil
}

// TestNobodyHoldsAnAnswer: an answer is not kept for one who does not take it.
func TestNobodyHoldsAnAnswer(t *testing.T) {
	l := &line{ResponseRecorder: httptest.NewRecorder()}
	reply.JSON(&reply.Answer{ResponseWriter: l}, 200, "x")
	if l.until.IsZero() || l.Body.String() != "\"x\"\n" {
		t.Errorf("answered %q, until %v", l.Body, l.until)
	}
}
