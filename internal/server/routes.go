package server

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"

	"bulkhead/client"
	"bulkhead/internal/duplex"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/e2b"
	"bulkhead/internal/server/e2b/builds"
	"bulkhead/internal/server/input"
	"bulkhead/internal/server/openapi"
	"bulkhead/internal/server/reply"
)

// maxBody bounds a JSON body, as existing clients expect it.
const maxBody = 16 << 20

// routes is the whole API of the host.
func (s *Server) routes() {
	s.call("GET /health", 204, func(*http.Request) (any, error) { return nil, nil })
	s.call("GET /ready", 204, func(r *http.Request) (any, error) { return nil, s.Ready(r.Context()) })
	s.handle("GET /metrics", func(w http.ResponseWriter, r *http.Request) { s.Metrics.ServeHTTP(w, r) })
	s.call("GET /version", 200, func(r *http.Request) (any, error) { return s.Info(r.Context()) })

	s.handle("GET /openapi.yaml", describe)
	maps.Copy(s.needs, needsOfE2B())
	for pattern, do := range s.E2B.Routes() {
		s.route(pattern, do)
	}
	for pattern, do := range s.Builds.Routes() {
		s.route(pattern, do)
	}
	s.stream(builds.Upload, s.Builds.Receive)
	for pattern, why := range e2b.Absent() {
		s.needs[pattern] = need{auth.Read, teams}
		s.route(pattern, func(*http.Request) (e2b.Reply, error) { return e2b.Reply{}, why })
	}
	s.powerRoutes()
	s.stream("GET /sandboxes/{ref}/console", s.console)

	s.call("GET /sandboxes/{ref}/timeline", 200, s.timeline)
	s.call("DELETE /sandboxes/{ref}/snapshots/{snapshot}", 204, s.removeSnapshot)
	s.call("POST /sandboxes/{ref}/rollback", 200, asked(func(ctx context.Context, ref string, req client.RollbackRequest) (any, error) {
		return s.Snapshots.Rollback(ctx, ref, req)
	}))

	s.stream("GET /sandboxes/{ref}/diff", s.diff)

	s.stream("POST /sandboxes/{ref}/ports/{port}", s.port)
	s.parcelRoutes()
	s.egressRoutes()
	s.secretRoutes()
	s.keyRoutes()
	s.sshRoutes()
	s.stream("POST /mcp", func(w http.ResponseWriter, r *http.Request) error {
		if s.readBody(w, r) {
			s.MCP.ServeHTTP(w, r)
		}
		return nil
	})

	s.stream("POST /templates", s.buildTemplate)
	s.call("PUT /templates/{name}/schedule", 200, s.scheduleTemplate)

	s.stream("GET /events", s.events)
	if s.More != nil {
		maps.Copy(s.needs, needsOfPage())
	}
	for pattern, do := range s.More {
		s.stream(pattern, do)
	}
	s.call("GET /events/verified", 200, func(r *http.Request) (any, error) { return s.EventsVerified(r.Context()) })
}

// describe answers with what there is to ask for.
func describe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = io.WriteString(w, openapi.Document()) // the client may be gone
}

// Patterns lists the routes that there are, as http.ServeMux writes them.
func (s *Server) Patterns() []string { return slices.Sorted(maps.Keys(s.needs)) }

// call adds a route that answers once, with JSON or, for a nil value, nothing.
func (s *Server) call(pattern string, status int, do func(*http.Request) (any, error)) {
	s.handle(pattern, func(w http.ResponseWriter, r *http.Request) {
		if !s.readBody(w, r) {
			return
		}
		v, err := do(r)
		switch {
		case err != nil:
			s.fail(w, r, err)
		case v == nil:
			w.WriteHeader(status)
		default:
			reply.JSON(w, status, v)
		}
	})
}

// route adds one that answers once, and itself says with which status.
func (s *Server) route(pattern string, do func(*http.Request) (e2b.Reply, error)) {
	s.handle(pattern, func(w http.ResponseWriter, r *http.Request) {
		if !s.readBody(w, r) {
			return
		}
		a, err := do(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		maps.Copy(w.Header(), a.Header)
		if a.Body == nil {
			w.WriteHeader(a.Status)
			return
		}
		reply.JSON(w, a.Status, a.Body)
	})
}

// about is a call about the sandbox that the path names.
func about(do func(ctx context.Context, ref string) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		return do(r.Context(), r.PathValue("ref"))
	}
}

// asked is a call about a sandbox that says more in its body.
func asked[T any](do func(ctx context.Context, ref string, req T) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var req T
		if err := input.JSON(r, &req); err != nil {
			return nil, err
		}
		return do(r.Context(), r.PathValue("ref"), req)
	}
}

// stream adds a route that answers bit by bit. Its context ends when the
// daemon does. An error after the first bit cuts the connection, so that the
// client cannot take the answer for whole.
func (s *Server) stream(pattern string, do func(http.ResponseWriter, *http.Request) error) {
	s.handle(pattern, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := s.streamContext(r.Context())
		defer cancel()
		if err := do(w, r.WithContext(ctx)); err != nil {
			s.fail(w, r, err)
		}
	})
}

// fail answers a request with err, see reply.Fail.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	reply.Fail(s.Log, w, r, err)
}

// streamContext returns a context that also ends when no stream may go on.
func (s *Server) streamContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.streams, cancel)
	return ctx, func() { stop(); cancel() }
}

// readBody reads a request's body whole, so that what is done with it takes no
// time of the sender's. If that fails it has answered.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) bool {
	if r.Body == http.NoBody {
		return true
	}
	if !auth.From(r.Context()).Known() {
		return true // what a stranger may ask says nothing in its body, and nothing is kept of it
	}
	body, err := input.Body(w, r, input.Bounds{Most: maxBody, Within: s.bodyTimeout})
	if err != nil {
		// A read that fails ends the request's context, but there is somebody to tell.
		e := reply.Describe(r.Context(), err)
		reply.LogFailure(s.Log, r, e.Code, err)
		_ = duplex.Prepare(w) // the rest is not waited for
		reply.JSON(w, e.Code, e)
		return false
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return true
}

// refForm is what ids, id prefixes and names have in common: a DNS label
// (RFC 1123), or the beginning of one.
var refForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// parseRef returns s if it can name a thing; what says which thing.
func parseRef(what, s string) (string, error) {
	if refForm.MatchString(s) {
		return s, nil
	}
	const most = 64
	if len(s) > most {
		s = s[:most] + "..."
	}
	return "", fault.New(fault.Invalid, "%q is not the id or name of a %s", s, what).
		Hint("ids and names are 1 to 63 of a-z, 0-9 and -")
}

// boolParam reads a query parameter that is 1 or absent.
func boolParam(r *http.Request, key string) (bool, error) {
	switch v := r.URL.Query().Get(key); v {
	case "", "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	default:
		return false, fault.New(fault.Invalid, "query parameter %s: %q is not 0 or 1", key, reply.OneLine(v))
	}
}

// countParam reads a query parameter that is a whole number; absent is -1.
func countParam(r *http.Request, key string) (int64, error) {
	v := r.URL.Query().Get(key)
	if v == "" {
		return -1, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return 0, fault.New(fault.Invalid, "query parameter %s: %q is not a whole number", key, reply.OneLine(v))
	}
	return n, nil
}

// orEmpty makes a nil list an empty one: [] rather than null.
func orEmpty[T any](list []T, err error) (any, error) {
	if list == nil {
		list = []T{}
	}
	return list, err
}

func (s *Server) timeline(r *http.Request) (any, error) {
	t, err := s.Snapshots.Timeline(r.Context(), r.PathValue("ref"))
	if t.Snapshots == nil {
		t.Snapshots = []client.Snapshot{}
	}
	return t, err
}

func (s *Server) removeSnapshot(r *http.Request) (any, error) {
	snapshot, err := parseRef("snapshot", r.PathValue("snapshot"))
	if err != nil {
		return nil, err
	}
	return nil, s.Snapshots.Remove(r.Context(), r.PathValue("ref"), snapshot)
}

func (s *Server) scheduleTemplate(r *http.Request) (any, error) {
	var req client.Schedule
	name, err := parseRef("template", r.PathValue("name"))
	if err == nil {
		err = input.JSON(r, &req)
	}
	if err != nil {
		return nil, err
	}
	return s.Templates.SetSchedule(r.Context(), name, req)
}
