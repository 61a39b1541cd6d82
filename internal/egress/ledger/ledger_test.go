package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"bulkhead/internal/egress/ledger"
)

func TestLedgerIsBounded(t *testing.T) {
	l := ledger.New(time.Now)
	for i := range 5000 {
		l.Denied(fmt.Sprintf("n%d.example:443", i), "default: deny", "")
		l.Opened(fmt.Sprintf("n%d.example:443", i))
	}
	uses, denials := l.Read()
	if len(uses) > 1001 || len(denials) != 100 || denials[0].Destination != "n4999.example:443" {
		t.Errorf("%d uses, %d denials, the latest %+v", len(uses), len(denials), denials[0])
	}
}

func TestSameDenialsAreOne(t *testing.T) {
	now := time.Unix(0, 0)
	l := ledger.New(func() time.Time { return now })
	for i, want := range []int{1, 0, 0} {
		if got := l.Denied("a:1", "r", ""); got != want {
			t.Errorf("refusal %d is told as %d", i, got)
		}
	}
	if got := l.Denied("b:1", "r", ""); got != 1 {
		t.Errorf("another is told as %d", got)
	}
	now = now.Add(time.Hour)
	if got := l.Denied("a:1", "r", ""); got != 4 {
		t.Errorf("an hour later it is told as %d", got)
	}
	if _, d := l.Read(); len(d) != 2 || d[0].Destination != "a:1" || d[0].Count != 4 {
		t.Errorf("kept %+v", d)
	}
}

func TestEventsAreBounded(t *testing.T) {
	now := time.Unix(0, 0)
	m := &ledger.Meter{}
	n := 0
	for range 5000 {
		if ok, _ := m.Pass("denied", now); ok {
			n++
		}
	}
	if n != 1000 {
		t.Errorf("%d passed within the hour", n)
	}
	if ok, left := m.Pass("connection", now); !ok || left != 0 {
		t.Errorf("one of another kind: %t, %d", ok, left)
	}
	if ok, left := m.Pass("denied", now.Add(time.Hour)); !ok || left != 4000 {
		t.Errorf("after the hour: %t, %d were left out", ok, left)
	}
}
