package works_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/recipe/record"
	"bulkhead/internal/sandbox/recipe/works"

	"github.com/google/go-cmp/cmp"
)

// A client reads what happened in its machine and what it can act on; the rest
// is the operator's business.
func TestReasonOf(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	secret := errors.New("open /var/lib/bulkhead/pool/x: input/output error")
	for _, tt := range []struct {
		name string
		ctx  context.Context
		err  error
		want record.Reason
	}{
		{"in the machine", t.Context(), works.At("2", fmt.Errorf("run: %w", works.Told(errors.New("exit status 3\x1b[31m")))), record.Reason{Message: "run: exit status 3", Step: "2"}},
		{"with a kind", t.Context(), works.At("base", fault.New(fault.NotFound, "template gone")), record.Reason{Message: "template gone", Step: "base"}},
		{"on the host", t.Context(), works.At("finalize", secret), record.Reason{Message: "internal error", Step: "finalize"}},
		{"at the daemon's end", ended, works.At("1", secret), record.Reason{Message: "the daemon is shutting down", Step: "1"}},
		{"anywhere", t.Context(), secret, record.Reason{Message: "internal error"}},
	} {
		if diff := cmp.Diff(tt.want, *works.ReasonOf(tt.ctx, tt.err)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if works.At("1", nil) != nil {
		t.Error("no error is one")
	}
}

func TestTurns(t *testing.T) {
	turns := works.NewTurns(3, 2)
	for i, tt := range []struct {
		team string
		back bool
		want bool
	}{
		{"a", false, true},
		{"a", false, true},
		{"a", false, false}, // enough of a team
		{"b", false, true},
		{"b", false, false}, // enough of all
		{"a", true, true},
		{"b", false, true},
		{"a", false, false},
		{"b", true, true},
		{"a", false, true},
	} {
		if tt.back {
			turns.GiveBack(tt.team)
			continue
		}
		if got := turns.Take(tt.team); got != tt.want {
			t.Errorf("%d: %s gets %v, want %v", i, tt.team, got, tt.want)
		}
	}
}

func TestTurnsAreWaitedFor(t *testing.T) {
	turns := works.NewTurns(1, 1)
	never := func() { t.Error("waits although it is nobody's turn") }
	if err := turns.Wait(t.Context(), "a", never); err != nil {
		t.Fatal(err)
	}
	waits, got := make(chan struct{}), make(chan error)
	go func() { got <- turns.Wait(t.Context(), "b", func() { close(waits) }) }()
	<-waits
	turns.GiveBack("a")
	if err := <-got; err != nil {
		t.Errorf("after its wait: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := turns.Wait(ctx, "c", cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("who does not wait any more gets %v", err)
	}
}
