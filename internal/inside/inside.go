// Package inside answers a machine that asks something of its own sandbox: its
// timeline, a snapshot, a rollback. The machine finds it at
// http://bulkhead.internal, and only that machine's own sandbox is there.
//
//	GET  /timeline                        its snapshots
//	POST /snapshot                        takes one; the latest eight stay
//	POST /rollback {"snapshot": "s…"}     begins one: there is no other answer
//
// Who asks may be an attacker. What can be asked is bounded in number, undone by
// the operator (a rollback keeps what it leaves) and on record; answers say
// nothing of the host.
//
// inside must not know how a connection came to it. A Service is safe for
// concurrent use.
package inside

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/schedule"
	"bulkhead/internal/single"
)

const (
	// kept is how many snapshots stay that a machine has asked for.
	kept = 8
	// maxSnapshots and maxRollbacks are how many may be asked for in an hour.
	maxSnapshots, maxRollbacks = 30, 6
	// sayLimit bounds how long a request may take to be said.
	sayLimit = 10 * time.Second
	maxHead  = 16 << 10
	maxBody  = 4 << 10
)

// Sandboxes is what is asked of.
type Sandboxes interface {
	Timeline(ref string) (sandbox.Sandbox, []pool.Snapshot, error)
	SnapshotFor(ctx context.Context, ref string, why sandbox.Why) (pool.Snapshot, error)
	Rollback(ctx context.Context, ref, snapshot string, discard bool) (sandbox.RolledBack, error)
}

// Service answers all machines. All fields are needed.
type Service struct {
	Sandboxes Sandboxes
	Event     func(ctx context.Context, typ, id string, fields map[string]string)
	Clock     func() time.Time
	Log       *slog.Logger

	// rollbacks are those that have begun.
	rollbacks sync.WaitGroup

	mu    sync.Mutex
	asked map[string]*hour // by sandbox; guarded by mu
}

// hour counts what one sandbox has asked for.
type hour struct {
	since                time.Time
	snapshots, rollbacks int
}

// Wait waits for the rollbacks that have begun.
func (s *Service) Wait() { s.rollbacks.Wait() }

// Serve answers the machine of a sandbox on one connection. may says what it
// may ask.
func (s *Service) Serve(ctx context.Context, id string, may func(what string) bool, conn net.Conn) {
	defer conn.Close()
	mux := http.NewServeMux()
	handle := func(what, pattern string, do func(*http.Request) (status int, answer any, err error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !may(what) {
				refuse(w, fault.New(fault.Denied, "not allowed"))
				return
			}
			status, answer, err := do(r)
			if err != nil {
				s.Log.WarnContext(ctx, "what a machine has asked for failed", "sandbox", id, "op", what, "err", err)
				refuse(w, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(answer) // fails only if the guest has gone
		})
	}
	handle("timeline", "GET /timeline", func(*http.Request) (int, any, error) { return s.timeline(id) })
	handle("snapshot", "POST /snapshot", func(r *http.Request) (int, any, error) { return s.snapshot(r.Context(), id) })
	handle("rollback", "POST /rollback", func(r *http.Request) (int, any, error) { return s.rollback(r, id) })
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: sayLimit, ReadTimeout: sayLimit, MaxHeaderBytes: maxHead,
		ErrorLog: log.New(io.Discard, "", 0),
	}
	single.Serve(ctx, server, conn)
}

// refusals are what a guest is told, whatever the error says of the host.
var refusals = map[fault.Kind]struct {
	status int
	text   string
}{
	fault.Denied:     {http.StatusForbidden, "The policy of this sandbox does not allow that."},
	fault.Invalid:    {http.StatusBadRequest, "That is not understood."},
	fault.NotFound:   {http.StatusNotFound, "There is no such snapshot."},
	fault.Exhausted:  {http.StatusTooManyRequests, "That was asked for too often, or there is no room."},
	fault.WrongState: {http.StatusConflict, "That cannot be done now."},
}

func refuse(w http.ResponseWriter, err error) {
	for kind, r := range refusals {
		if fault.Is(err, kind) {
			http.Error(w, r.text, r.status)
			return
		}
	}
	http.Error(w, "That failed. The operator has the reason.", http.StatusInternalServerError)
}

// snapshot is one as a guest sees it.
type snapshot struct {
	ID     string    `json:"snapshotID"`
	Name   string    `json:"name,omitempty"`
	Parent string    `json:"parent,omitempty"`
	Cause  string    `json:"cause"`
	Taken  time.Time `json:"createdAt"`
}

func seen(s pool.Snapshot) snapshot {
	return snapshot{string(s.ID), s.Name, string(s.Parent), s.Cause, s.Created}
}

func (s *Service) timeline(id string) (int, any, error) {
	_, snaps, err := s.Sandboxes.Timeline(id)
	all := []snapshot{}
	for _, one := range snaps {
		all = append(all, seen(one))
	}
	return http.StatusOK, all, err
}

func (s *Service) snapshot(ctx context.Context, id string) (int, any, error) {
	if !s.count(id, func(h *hour) (*int, int) { return &h.snapshots, maxSnapshots }) {
		return 0, nil, fault.New(fault.Exhausted, "more than %d snapshots in an hour", maxSnapshots)
	}
	one, err := s.Sandboxes.SnapshotFor(ctx, id, sandbox.Why{Cause: sandbox.CauseInside, Keep: schedule.Keep{Last: kept}})
	return http.StatusCreated, seen(one), err
}

// rollback begins one. The machine that has asked is gone before it ends, and
// with it the connection; so it is not waited for.
func (s *Service) rollback(r *http.Request, id string) (int, any, error) {
	var req struct {
		Snapshot string `json:"snapshot"`
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(body, &req)
	}
	if err != nil || req.Snapshot == "" {
		return 0, nil, fault.New(fault.Invalid, "read request: %w", errors.Join(err))
	}
	_, snaps, err := s.Sandboxes.Timeline(id)
	if err != nil {
		return 0, nil, err
	}
	to, ok := find(snaps, req.Snapshot)
	if !ok {
		return 0, nil, fault.New(fault.NotFound, "no such snapshot")
	}
	if !s.count(id, func(h *hour) (*int, int) { return &h.rollbacks, maxRollbacks }) {
		return 0, nil, fault.New(fault.Exhausted, "more than %d rollbacks in an hour", maxRollbacks)
	}
	ctx := context.WithoutCancel(r.Context())
	s.Log.WarnContext(ctx, "a machine has asked to be rolled back", "sandbox", id, "snapshot", to.ID)
	s.Event(ctx, "inside.rollback", id, map[string]string{"snapshot": to.ID, "name": to.Name})
	s.rollbacks.Go(func() {
		if _, err := s.Sandboxes.Rollback(ctx, id, to.ID, false); err != nil {
			s.Log.ErrorContext(ctx, "rollback that a machine has asked for failed", "sandbox", id, "err", err)
		}
	})
	return http.StatusAccepted, to, nil
}

func find(snaps []pool.Snapshot, ref string) (snapshot, bool) {
	for _, s := range snaps {
		if ref == string(s.ID) || ref == s.Name {
			return seen(s), true
		}
	}
	return snapshot{}, false
}

// count counts one more of something within this hour, unless it is too many.
func (s *Service) count(id string, of func(*hour) (n *int, most int)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == nil {
		s.asked = map[string]*hour{}
	}
	h := s.asked[id]
	now := s.Clock()
	if h == nil || now.Sub(h.since) >= time.Hour {
		h = &hour{since: now}
		s.asked[id] = h
	}
	n, most := of(h)
	if *n >= most {
		return false
	}
	*n++
	return true
}
