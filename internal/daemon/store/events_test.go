package store_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"bulkhead/internal/audit"
	"bulkhead/internal/daemon/store"
	"bulkhead/internal/server"
	"bulkhead/internal/server/auth"

	"github.com/google/go-cmp/cmp"
)

// TestEventsAreTheTeams reads one log as each of those who may.
func TestEventsAreTheTeams(t *testing.T) {
	log, err := audit.Open(audit.Options{Dir: t.TempDir(), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	teams := map[string]string{"i1": "default", "i2": "acme", "i3": "acme"}
	e := store.Events{Audit: log, Log: slog.New(slog.DiscardHandler), Team: func(id string) (string, bool) {
		team, ok := teams[id]
		return team, ok
	}}
	ctx := t.Context()
	fields := map[string]string{"name": "x"}
	e.Append(ctx, "daemon.started", "", nil)
	e.Append(ctx, "sandbox.started", "i1", nil)
	e.Append(ctx, "sandbox.started", "i2", fields)
	delete(teams, "i2")
	e.Append(ctx, "egress.denied", "i2", nil) // late, of one that is gone
	e.Append(ctx, "sandbox.started", "i3", nil)
	if len(fields) != 1 {
		t.Errorf("the caller's fields were changed: %v", fields)
	}
	delete(teams, "i3")

	key := func(team, sandbox string) auth.Principal {
		return auth.Principal{Team: team, Scope: auth.Read, Sandbox: sandbox}
	}
	for name, tt := range map[string]struct {
		who  auth.Principal
		want []string
	}{
		"the operator":         {auth.Operator(), []string{"daemon.started ", "sandbox.started i1", "sandbox.started i2", "egress.denied i2", "sandbox.started i3"}},
		"the host's team":      {key(auth.DefaultTeam, ""), []string{"daemon.started ", "sandbox.started i1"}},
		"another team":         {key("acme", ""), []string{"sandbox.started i2", "sandbox.started i3"}},
		"a key of one sandbox": {key("acme", "i3"), []string{"sandbox.started i3"}},
		"a stranger":           {auth.Principal{}, nil},
	} {
		var got []string
		for e, err := range store.Reader(log)(auth.With(context.Background(), tt.who), server.EventQuery{}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Type+" "+e.SandboxID)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s reads (-want +got):\n%s", name, diff)
		}
	}
}
