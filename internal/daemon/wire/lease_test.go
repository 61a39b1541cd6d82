package wire_test

import (
	"encoding/json"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon/wire"
	"bulkhead/internal/sandbox/lease"
	"bulkhead/internal/sandbox/schedule"

	"github.com/google/go-cmp/cmp"
)

func TestLease(t *testing.T) {
	minute, no := 60, false
	for name, tt := range map[string]struct {
		asked client.CreateRequest
		want  *lease.Lease
	}{
		"for ever":           {client.CreateRequest{Forever: true}, nil},
		"removed at its end": {client.CreateRequest{Timeout: &minute}, &lease.Lease{Term: time.Minute, OnEnd: schedule.Remove}},
		"paused at its end": {client.CreateRequest{Timeout: &minute, AutoPause: true, AutoResume: &client.AutoResume{Enabled: true}},
			&lease.Lease{Term: time.Minute, OnEnd: schedule.Pause, Wakes: true}},
		"its disk kept": {client.CreateRequest{Timeout: &minute, AutoPause: true, AutoPauseMemory: &no},
			&lease.Lease{Term: time.Minute, OnEnd: schedule.Pause, Cold: true}},
	} {
		if diff := cmp.Diff(tt.want, wire.Lease(tt.asked)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	source := &lease.Lease{Term: time.Hour, OnEnd: schedule.Pause}
	if diff := cmp.Diff(&lease.Lease{Term: time.Minute, OnEnd: schedule.Pause}, wire.ForkLease(source, &minute)); diff != "" || source.Term != time.Hour {
		t.Errorf("fork: %s", diff)
	}
	if wire.ForkLease(source, nil) != nil {
		t.Error("a fork that is to live for ever has an end")
	}
}

func TestAskedSurvives(t *testing.T) {
	no := false
	want := wire.AskedFor(client.CreateRequest{AllowInternetAccess: &no, Network: &client.Network{DenyOut: []string{"1.1.1.1"}}})
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, wire.AskedOf(raw)); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "[", `{"internet":3}`} {
		if diff := cmp.Diff(wire.Asked{}, wire.AskedOf([]byte(bad))); diff != "" {
			t.Errorf("%q: %s", bad, diff)
		}
	}
}
