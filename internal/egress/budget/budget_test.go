package budget_test

import (
	"testing"
	"time"

	"bulkhead/internal/egress/budget"
	"bulkhead/internal/egress/policy"
)

func TestByteBudgets(t *testing.T) {
	now := time.Unix(0, 0)
	b := budget.New(func() time.Time { return now })
	rule := budget.Scope{Name: "a.example ports 443", Limits: &policy.Limits{UploadBytes: 100, DownloadBytes: 1000, Per: time.Hour}}
	for i, tt := range []struct {
		wait     time.Duration
		up, down int64
		cut      bool
	}{
		{0, 60, 0, false}, {0, 41, 0, true}, {0, 40, 1000, false}, {0, 1, 0, true}, {time.Minute, 0, 1, true},
		{time.Hour, 100, 0, false}, {0, 0, 1001, true},
	} {
		now = now.Add(tt.wait)
		if err := b.Spend([]budget.Scope{rule}, tt.up, tt.down); (err != nil) != tt.cut {
			t.Errorf("step %d: %v", i, err)
		}
	}
	if _, err := b.Admit([]budget.Scope{rule}); err == nil {
		t.Error("a connection is admitted that may send nothing")
	}
	if err := b.Spend(nil, 1<<40, 1<<40); err != nil {
		t.Errorf("without limits: %v", err)
	}
}

// What one rule may is not more than what the whole sandbox may, and a refusal
// by one counts for neither.
func TestBudgetsOfRuleAndSandbox(t *testing.T) {
	b := budget.New(time.Now)
	whole := budget.Scope{Name: "", Limits: &policy.Limits{UploadBytes: 150, Per: time.Hour}}
	one := budget.Scope{Name: "one", Limits: &policy.Limits{UploadBytes: 100, Per: time.Hour}}
	other := budget.Scope{Name: "other", Limits: &policy.Limits{UploadBytes: 100, Per: time.Hour}}
	if err := b.Spend([]budget.Scope{whole, one}, 100, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.Spend([]budget.Scope{whole, other}, 51, 0); err == nil {
		t.Error("the sandbox sent more than it may")
	}
	if err := b.Spend([]budget.Scope{whole, other}, 50, 0); err != nil {
		t.Error(err)
	}
	for i, want := range []int64{150, 100, 50} {
		if got := b.Read([]budget.Scope{whole, one, other})[i]; got.Up != want {
			t.Errorf("%q has sent %d, want %d", got.Rule, got.Up, want)
		}
	}
}

// A daemon that starts anew does not give a guest another day's budget.
func TestBudgetsAreKept(t *testing.T) {
	b := budget.New(time.Now)
	rule := budget.Scope{Name: "a", Limits: &policy.Limits{UploadBytes: 100, Per: time.Hour}}
	if err := b.Spend([]budget.Scope{rule}, 100, 0); err != nil {
		t.Fatal(err)
	}
	doc, err := b.Keep()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.Keep(); again != nil || err != nil {
		t.Errorf("kept again: %s, %v", again, err)
	}
	next := budget.New(time.Now)
	if err := next.Restore(doc); err != nil {
		t.Fatal(err)
	}
	if err := next.Spend([]budget.Scope{rule}, 1, 0); err == nil {
		t.Error("the budget began anew")
	}
}

func TestLimitsOfConnections(t *testing.T) {
	now := time.Unix(0, 0)
	b := budget.New(func() time.Time { return now })
	rule := budget.Scope{Name: "a", Limits: &policy.Limits{Connections: 2, Rate: 3}}
	var leave []func()
	for range 2 {
		l, err := b.Admit([]budget.Scope{rule})
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, l)
	}
	if _, err := b.Admit([]budget.Scope{rule}); err == nil {
		t.Error("a third is open")
	}
	leave[0]()
	if _, err := b.Admit([]budget.Scope{rule}); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
	leave[1]()
	if _, err := b.Admit([]budget.Scope{rule}); err == nil {
		t.Error("a fourth has begun within a minute")
	}
	now = now.Add(time.Minute)
	if _, err := b.Admit([]budget.Scope{rule}); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}
