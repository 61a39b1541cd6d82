package outcome_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/cli/outcome"
	"bulkhead/internal/fault"

	"github.com/google/go-cmp/cmp"
)

func TestEveryKindHasAnExitCodeOfItsOwn(t *testing.T) {
	seen := map[int]fault.Kind{0: "success", outcome.Own: "own", outcome.Interrupted: "interrupted"}
	for _, kind := range fault.Kinds() {
		f := outcome.Of(fault.New(kind, "x"))
		if other, taken := seen[f.Code]; taken {
			t.Errorf("%s: got %d, which is that of %s", kind, f.Code, other)
		}
		if f.Kind != string(kind) {
			t.Errorf("%s: got kind %s", kind, f.Kind)
		}
		if got, want := outcome.Help(false), fmt.Sprintf(" %d ", f.Code); !strings.Contains(strings.ReplaceAll(got, "\n", " "), want) {
			t.Errorf("%s: code %d is not in the help: %s", kind, f.Code, got)
		}
		seen[f.Code] = kind
	}
}

func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want outcome.Failure
	}{
		{"an error without a kind", errors.New("x"), outcome.Failure{Code: 1, Message: "x", Kind: "internal"}},
		{"ours", fmt.Errorf("a: %w", fault.New(fault.Exists, "b").Hint("c")), outcome.Failure{Code: 4, Message: "a: b", Kind: "exists", Hint: "c"}},
		{"the daemon's", fmt.Errorf("a: %w", &client.Error{Code: 404, Message: "b", Kind: "not_found", Hint: "c", RequestID: "d"}),
			outcome.Failure{Code: 3, Message: "a: b", Kind: "not_found", Hint: "c", RequestID: "d"}},
		{"the daemon's, of a later release", &client.Error{Code: 402, Message: "b", Kind: "unpaid"}, outcome.Failure{Code: 1, Message: "b", Kind: "internal"}},
		{"the daemon's own trouble", &client.Error{Message: "b", Kind: "internal", RequestID: "d"},
			outcome.Failure{Code: 1, Message: "b", Kind: "internal", Hint: "look for request d in the daemon's log", RequestID: "d"}},
		{"Ctrl-C", fmt.Errorf("ask: %w", context.Canceled), outcome.Failure{Code: 130, Message: "interrupted", Kind: "internal"}},
		{"text of a guest", &client.Error{Message: "a\nhint: b\x1b[2J", Kind: "invalid", Hint: "c\nd"},
			outcome.Failure{Code: 2, Message: "a hint: b?[2J", Kind: "invalid", Hint: "c d"}},
		{"a cut connection", fmt.Errorf("%w: EOF", client.ErrCutOff), outcome.Failure{Code: 8, Message: "connection to the sandbox was cut: EOF", Kind: "unavailable", Hint: "bulkhead ls"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, outcome.Of(tt.err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
