package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/input"
	"bulkhead/internal/server/reply"
)

// lines writes one JSON value a line, each at once.
type lines struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// newLines begins an answer of lines.
func newLines(w http.ResponseWriter) (lines, error) {
	l := lines{w: w, control: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	return l, l.control.Flush()
}

func (l lines) write(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := l.w.Write(append(b, '\n')); err != nil {
		return err
	}
	return l.control.Flush()
}

// buildTemplate answers with the progress of a build. The client's end, or
// its going away, is the build's.
func (s *Server) buildTemplate(w http.ResponseWriter, r *http.Request) error {
	var req client.BuildRequest
	if !s.readBody(w, r) {
		return nil
	}
	if err := input.JSON(r, &req); err != nil {
		return err
	}
	out, err := newLines(w)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	t, err := s.Templates.Build(ctx, req, func(e client.BuildEvent) {
		if err := out.write(e); err != nil {
			cancel(err)
		}
	})
	if err != nil {
		e := reply.Describe(ctx, err)
		reply.LogFailure(s.Log, r, e.Code, err)
		return out.write(client.BuildEvent{Error: e})
	}
	return out.write(client.BuildEvent{Template: &t})
}

// serverSent is how browsers read streams of events (WHATWG HTML, "Server-sent
// events").
const serverSent = "text/event-stream"

// eventLines writes events, each at once: a line each, or as server-sent events.
type eventLines struct {
	lines
	sent bool
}

func newEventLines(w http.ResponseWriter, r *http.Request) (eventLines, error) {
	out := eventLines{sent: strings.Contains(r.Header.Get("Accept"), serverSent)}
	if !out.sent {
		var err error
		out.lines, err = newLines(w)
		return out, err
	}
	out.lines = lines{w: w, control: http.NewResponseController(w)}
	w.Header().Set("Content-Type", serverSent)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return out, out.control.Flush()
}

func (l eventLines) write(e client.Event) error {
	if l.sent {
		// Who comes back says with this number what it has seen.
		if _, err := fmt.Fprintf(l.w, "id: %d\nevent: %s\ndata: ", e.Seq, e.Type); err != nil {
			return err
		}
	}
	if err := l.lines.write(e); err != nil || !l.sent {
		return err
	}
	if _, err := io.WriteString(l.w, "\n"); err != nil {
		return err
	}
	return l.control.Flush()
}

// events answers with recorded events.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	q, err := s.eventQuery(r)
	if err != nil {
		return err
	}
	out, err := newEventLines(w, r)
	if err != nil {
		return err
	}
	for e, err := range s.Events(r.Context(), q) {
		if r.Context().Err() != nil {
			return nil // the client left, or the daemon ends
		}
		if err != nil {
			return err
		}
		if err := out.write(e); err != nil {
			return err
		}
	}
	return nil
}

// diff answers with the files that differ between two moments of a sandbox, a
// line each.
func (s *Server) diff(w http.ResponseWriter, r *http.Request) error {
	ref := r.PathValue("ref")
	var ends [2]string
	var err error
	for i, key := range []string{"from", "to"} {
		if v := r.URL.Query().Get(key); v != "" {
			if ends[i], err = parseRef("snapshot", v); err != nil {
				return err
			}
		}
	}
	var out *lines
	begin := func() error {
		l, err := newLines(w)
		out = &l
		return err
	}
	for c, err := range s.Snapshots.Diff(r.Context(), ref, ends[0], ends[1]) {
		if err == nil && out == nil {
			err = begin()
		}
		if err == nil {
			err = out.write(c)
		}
		if err != nil {
			return err
		}
	}
	if out == nil {
		return begin()
	}
	return nil
}

func (s *Server) eventQuery(r *http.Request) (q EventQuery, err error) {
	since, err := countParam(r, "since")
	if err != nil {
		return q, err
	}
	q.Since = uint64(max(0, since))
	if last, err := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64); err == nil {
		q.Since = max(q.Since, last)
	}
	if q.Follow, err = boolParam(r, "follow"); err != nil {
		return q, err
	}
	if q.Type = r.URL.Query().Get("type"); q.Type != "" && !typeForm.MatchString(q.Type) {
		return q, fault.New(fault.Invalid, "query parameter type: %q is no type of events", reply.OneLine(q.Type))
	}
	if after := r.URL.Query().Get("after"); after != "" {
		if q.After, err = time.Parse(time.RFC3339, after); err != nil {
			return q, fault.New(fault.Invalid, "query parameter after: %q is no time", reply.OneLine(after)).Hint("write it as RFC 3339 says")
		}
	}
	if r.URL.Query().Has("sandbox") {
		q.SandboxID, err = s.sandboxID(r.Context(), r.URL.Query().Get("sandbox"))
	}
	return q, err
}

// typeForm is a type of events, or the beginning of one.
var typeForm = regexp.MustCompile(`^[a-z0-9_]{1,32}(\.[a-z0-9_]{1,32}){0,4}$`)

// idForm is a whole id of a sandbox.
var idForm = regexp.MustCompile(`^i[a-z0-9]{20}$`)

// sandboxID returns the id that a ref names. A whole id need not be that of
// a sandbox which still exists: its events do.
func (s *Server) sandboxID(ctx context.Context, ref string) (string, error) {
	ref, err := parseRef("sandbox", ref)
	if err != nil {
		return "", err
	}
	id, err := s.Sandboxes.Resolve(ctx, ref)
	if fault.Is(err, fault.NotFound) && idForm.MatchString(ref) {
		return ref, nil
	}
	return id, err
}
