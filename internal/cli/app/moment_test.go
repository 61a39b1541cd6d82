package app_test

import (
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
)

// The id of a snapshot says whose it is, unless a sandbox is called so.
func TestMoments(t *testing.T) {
	const mine, others = "sj3jccztlbnez", "sozkw6m3enu7h"
	a := &app.App{API: daemonWith(t, map[string]client.Timeline{
		"otter": {Snapshots: []client.Snapshot{{ID: "sbcdefghijklm"}, {ID: mine}}}, "gone": {}, "snowflakebird": {},
		"badger": {Snapshots: []client.Snapshot{{ID: others}}},
	})}
	for args, want := range map[string]string{
		"otter": "otter", "otter monday tuesday": "otter monday tuesday", mine: "otter " + mine, others + " monday": "badger " + others + " monday",
		"snowflakebird monday": "snowflakebird monday", "sunknownunkno": "sunknownunkno", "SJ3JCCZTLBNEZ": "SJ3JCCZTLBNEZ",
	} {
		sandbox, snapshots, err := a.Moments(t.Context(), strings.Fields(args), 2)
		if got := strings.Join(slices.Insert(snapshots, 0, sandbox), " "); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", args, got, err, want)
		}
	}
	if _, _, err := a.Moments(t.Context(), []string{mine, "a", "b"}, 2); err == nil || !strings.Contains(err.Error(), "1 more are too many") {
		t.Errorf("a moment too many: %v", err)
	}
	for arg, want := range map[string][2]string{"otter": {"otter"}, "otter@monday": {"otter", "monday"}, others: {"badger", others}} {
		if sandbox, snapshot, err := a.Moment(t.Context(), arg); err != nil || [2]string{sandbox, snapshot} != want {
			t.Errorf("%s: %q, %q, %v", arg, sandbox, snapshot, err)
		}
	}
}

// daemonWith is a client of a daemon that has sandboxes with timelines. One called
// gone is removed between two requests.
func daemonWith(t *testing.T, lines map[string]client.Timeline) *client.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	answer := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sandboxes/{id}/timeline", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == "gone" {
			answer(w, http.StatusNotFound, client.Error{Code: http.StatusNotFound, Kind: "not_found", Message: "gone"})
			return
		}
		answer(w, http.StatusOK, lines[r.PathValue("id")])
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		all := []client.Sandbox{}
		for name := range lines {
			all = append(all, client.Sandbox{ID: name, Name: name})
		}
		answer(w, http.StatusOK, all)
	})
	s := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // it ends by Close
	}()
	t.Cleanup(func() { s.Close(); <-done })
	return client.New(socket)
}
