// Package page is the console: a page by which an operator looks at sandboxes,
// understands what they do, and undoes it.
//
// The page itself is static (static.go), built from web/ and embedded; it uses
// the same API as everybody else. What only a browser needs is served by the
// packages below: session, overview, desk and terminal. Here are their routes.
//
// page must not know how the parts that it shows are made.
package page

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"sync"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/input"
	"bulkhead/internal/server/page/desk"
	"bulkhead/internal/server/page/overview"
	"bulkhead/internal/server/page/session"
	"bulkhead/internal/server/page/terminal"
	"bulkhead/internal/server/reply"
)

// maxNote bounds a request that names files or has a policy.
const maxNote = 1 << 20

// Page is the console. All fields are needed.
type Page struct {
	Sessions  *session.Sessions
	Live      *overview.Live
	Desk      *desk.Desk
	Terminals *terminal.Room
	// Replay says what another policy would have decided otherwise;
	// fault.Invalid if it has a mistake.
	Replay func(ctx context.Context, ref string, req client.EgressPolicyRequest) ([]client.EgressChange, error)
	// Doctor examines the host.
	Doctor func(ctx context.Context) []client.Check
}

// Route answers a request, or says why not.
type Route = func(w http.ResponseWriter, r *http.Request) error

// Routes returns what is served, by pattern.
func (p *Page) Routes() map[string]Route {
	files := sync.OnceValue(pack)
	return map[string]Route{
		"GET /{$}":            func(w http.ResponseWriter, r *http.Request) error { return files().serve(w, r, "index.html") },
		"GET /console/{file}": func(w http.ResponseWriter, r *http.Request) error { return files().serve(w, r, r.PathValue("file")) },

		"POST /session":   p.Sessions.Begin,
		"GET /session":    p.Sessions.Who,
		"DELETE /session": p.Sessions.End,

		"GET /overview": p.Live.Once,
		"GET /live":     p.Live.Stream,
		"GET /doctor": func(w http.ResponseWriter, r *http.Request) error {
			reply.JSON(w, http.StatusOK, p.Doctor(r.Context()))
			return nil
		},

		"POST /sandboxes/{ref}/egress/check": p.check,
		"GET /sandboxes/{ref}/terminal": func(w http.ResponseWriter, r *http.Request) error {
			return p.Terminals.Serve(w, r, r.PathValue("ref"))
		},
		"GET /sandboxes/{ref}/folder": func(w http.ResponseWriter, r *http.Request) error {
			f, err := p.Desk.List(r.Context(), r.PathValue("ref"), r.URL.Query().Get("path"))
			return answer(w, f, err)
		},
		"POST /sandboxes/{ref}/folder": func(w http.ResponseWriter, r *http.Request) error {
			return done(w, p.Desk.MakeFolder(r.Context(), r.PathValue("ref"), r.URL.Query().Get("path")))
		},
		"GET /sandboxes/{ref}/file": func(w http.ResponseWriter, r *http.Request) error {
			ref, err := moment(r)
			if err != nil {
				return err
			}
			return p.Desk.Download(w, r, ref)
		},
		"PUT /sandboxes/{ref}/file": func(w http.ResponseWriter, r *http.Request) error {
			input.Steady(w, r, input.Still)
			return done(w, p.Desk.Upload(r, r.PathValue("ref")))
		},
		"DELETE /sandboxes/{ref}/file": func(w http.ResponseWriter, r *http.Request) error {
			return done(w, p.Desk.Remove(r.Context(), r.PathValue("ref"), r.URL.Query().Get("path")))
		},
		"POST /sandboxes/{ref}/file": p.move,
		"GET /sandboxes/{ref}/programs": func(w http.ResponseWriter, r *http.Request) error {
			all, err := p.Desk.Programs(r.Context(), r.PathValue("ref"))
			return answer(w, all, err)
		},
		"POST /sandboxes/{ref}/programs/{pid}/signal": p.signal,
	}
}

// snapshotForm is what names and ids of snapshots have in common.
var snapshotForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// moment is the sandbox that a request is about, or what it was at the snapshot
// that the query parameter at names.
func moment(r *http.Request) (ref string, err error) {
	ref = r.PathValue("ref")
	switch at := r.URL.Query().Get("at"); {
	case at == "":
		return ref, nil
	case !snapshotForm.MatchString(at):
		return "", fault.New(fault.Invalid, "query parameter at is not the id or name of a snapshot")
	default:
		return ref + "@" + at, nil
	}
}

func (p *Page) signal(w http.ResponseWriter, r *http.Request) error {
	var s client.ProcessSignal
	if err := read(w, r, &s); err != nil {
		return err
	}
	return done(w, p.Desk.Signal(r.Context(), r.PathValue("ref"), r.PathValue("pid"), s))
}

// check answers what is to be said of a policy while it is being written: a
// mistake is an answer then, and no error.
func (p *Page) check(w http.ResponseWriter, r *http.Request) error {
	var req client.EgressPolicyRequest
	if err := read(w, r, &req); err != nil {
		return err
	}
	changes, err := p.Replay(r.Context(), r.PathValue("ref"), req)
	c := client.EgressCheck{Changes: append([]client.EgressChange{}, changes...)}
	if fault.Is(err, fault.Invalid) {
		c.Mistake, c.Hint, err = err.Error(), fault.HintOf(err), nil
	}
	return answer(w, c, err)
}

func (p *Page) move(w http.ResponseWriter, r *http.Request) error {
	var m client.FileMove
	if err := read(w, r, &m); err != nil {
		return err
	}
	return done(w, p.Desk.Move(r.Context(), r.PathValue("ref"), m))
}

// read reads a request's body into v.
func read(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := input.Body(w, r, input.Bounds{Most: maxNote, Within: input.Patience})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fault.New(fault.Invalid, "read request body: %w", err)
	}
	return nil
}

func answer(w http.ResponseWriter, v any, err error) error {
	if err == nil {
		reply.JSON(w, http.StatusOK, v)
	}
	return err
}

func done(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}
