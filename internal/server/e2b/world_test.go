package e2b_test

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/e2b"
	"bulkhead/internal/server/reply"
)

// world is sandboxes and templates that are only written down.
type world struct {
	boxes     []client.Sandbox
	templates []client.Template
	samples   []client.Metric
	events    []client.Event
	now       time.Time
	// created and resumed are the last requests.
	created client.CreateRequest
	resumed client.ResumeRequest
	// ended is when a sandbox was last told to end.
	ended     time.Time
	onlyLater bool
	// busy is how often SetEnd refuses.
	busy int
}

func start() time.Time { return time.Date(2026, 5, 4, 3, 2, 1, 500, time.UTC) }

func (w *world) List(context.Context) ([]client.Sandbox, error) { return w.boxes, nil }
func (w *world) Get(_ context.Context, ref string) (client.Sandbox, error) {
	for _, b := range w.boxes {
		if b.ID == ref {
			return b, nil
		}
	}
	return client.Sandbox{}, fault.New(fault.NotFound, "sandbox %q not found", ref)
}
func (w *world) Create(_ context.Context, r client.CreateRequest) (client.Sandbox, error) {
	w.created = r
	return client.Sandbox{ID: "inew", State: client.StateRunning}, nil
}
func (w *world) Remove(ctx context.Context, ref string) error {
	_, err := w.Get(ctx, ref)
	return err
}
func (w *world) Pause(ctx context.Context, ref string, _ client.PauseRequest) (client.Sandbox, error) {
	b, err := w.Get(ctx, ref)
	if err == nil && b.State == client.StatePaused {
		err = fault.New(fault.WrongState, "cannot pause while paused")
	}
	return b, err
}
func (w *world) Resume(ctx context.Context, ref string, r client.ResumeRequest) (client.Sandbox, error) {
	w.resumed = r
	b, err := w.Get(ctx, ref)
	if err == nil && b.State != client.StatePaused {
		err = fault.New(fault.WrongState, "cannot resume while running")
	}
	return b, err
}
func (w *world) SetEnd(ctx context.Context, ref string, at time.Time, onlyLater bool) (client.Sandbox, error) {
	if w.busy > 0 {
		w.busy--
		return client.Sandbox{}, fault.New(fault.WrongState, "not now")
	}
	w.ended, w.onlyLater = at, onlyLater
	return w.Get(ctx, ref)
}
func (w *world) Fork(_ context.Context, _ string, r client.ForkRequest) ([]client.Sandbox, []error, error) {
	made, errs := make([]client.Sandbox, r.Count), make([]error, r.Count)
	errs[r.Count-1] = fault.New(fault.Exhausted, "no room for the last one")
	return made, errs, nil
}
func (w *world) Take(_ context.Context, _ string, r client.SnapshotRequest) (client.Snapshot, error) {
	return client.Snapshot{ID: "s1", Name: r.Name}, nil
}
func (w *world) Publish(_ context.Context, ref, name string) (client.Template, error) {
	t := client.Template{ID: name, Name: name, Origin: ref, CreatedAt: w.now}
	w.templates = append(w.templates, t)
	return t, nil
}
func (w *world) Check(*client.Network, *bool) error { return nil }
func (w *world) SetNetwork(context.Context, string, *client.Network, *bool) error {
	return nil
}
func (w *world) Samples(context.Context, string) ([]client.Metric, error) { return w.samples, nil }
func (w *world) Console(context.Context, string) (string, error)          { return "/nowhere", nil }
func (w *world) Events(context.Context, string) iter.Seq2[client.Event, error] {
	return func(yield func(client.Event, error) bool) {
		for _, e := range w.events {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// shelf is the world's templates.
type shelf struct{ *world }

func (s shelf) List(context.Context) ([]client.Template, error) { return s.templates, nil }
func (s shelf) Find(_ context.Context, names ...string) (client.Template, error) {
	for _, name := range names {
		for _, t := range s.templates {
			if t.Name == name {
				return t, nil
			}
		}
	}
	return client.Template{}, fault.New(fault.NotFound, "template not found")
}
func (s shelf) Remove(_ context.Context, name string) error {
	for i, t := range s.templates {
		if t.Name == name {
			s.world.templates = append(s.templates[:i:i], s.templates[i+1:]...)
			return nil
		}
	}
	return fault.New(fault.NotFound, "template not found")
}
func (s shelf) Tag(ctx context.Context, name, as string) error {
	t, err := s.Find(ctx, name)
	t.Name = as
	s.world.templates = append(s.templates, t)
	return err
}

// serve serves the world to who has a key of a team.
func serve(t *testing.T, w *world, p auth.Principal) func(op, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	api := &e2b.API{
		Sandboxes: w, Power: w, Snapshots: w, Templates: shelf{w}, Networks: w, Past: w,
		Describe: reply.Describe, Clock: func() time.Time { return w.now },
	}
	mux := http.NewServeMux()
	for pattern, do := range api.Routes() {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			r = r.WithContext(auth.With(r.Context(), p))
			a, err := do(r)
			if err != nil {
				e := reply.Describe(r.Context(), err)
				reply.JSON(rw, e.Code, e)
				return
			}
			for k, v := range a.Header {
				rw.Header()[k] = v
			}
			if a.Body == nil {
				rw.WriteHeader(a.Status)
				return
			}
			reply.JSON(rw, a.Status, a.Body)
		})
	}
	return func(op, body string, headers ...string) (int, string, http.Header) {
		t.Helper()
		method, path, _ := strings.Cut(op, " ")
		rec := httptest.NewRecorder()
		r := httptest.NewRequest(method, path, io.MultiReader(strings.NewReader(body)))
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		mux.ServeHTTP(rec, r)
		return rec.Code, rec.Body.String(), rec.Header()
	}
}

func owner() auth.Principal { return auth.Principal{Team: auth.DefaultTeam, Scope: auth.Admin} }

func read[T any](t *testing.T, body string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return v
}
