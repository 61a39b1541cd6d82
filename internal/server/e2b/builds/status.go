package builds

import (
	"math"
	"net/http"
	"slices"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/e2b"
	"bulkhead/internal/server/input"
)

// start begins a build.
func (a *API) start(r *http.Request) (e2b.Reply, error) {
	w, err := which(r)
	if err != nil {
		return e2b.Reply{}, err
	}
	var req struct {
		Image    string          `json:"fromImage"`
		Registry client.Registry `json:"fromImageRegistry"`
		Template string          `json:"fromTemplate"`
		Force    bool            `json:"force"`
		Start    string          `json:"startCmd"`
		Ready    string          `json:"readyCmd"`
		Steps    []Step          `json:"steps"`
	}
	if err := input.JSON(r, &req); err != nil {
		return e2b.Reply{}, err
	}
	recipe := Recipe{Image: req.Image, Registry: req.Registry, Force: req.Force, Start: req.Start, Ready: req.Ready, Steps: req.Steps}
	if req.Template != "" {
		ref, err := e2b.ParseReference(req.Template)
		if err != nil {
			return e2b.Reply{}, err
		}
		t, err := a.Templates.Find(r.Context(), ref.Names(w.Team)...)
		if fault.Is(err, fault.NotFound) {
			err = fault.New(fault.NotFound, "template %q not found", ref.Built()).Hint("bulkhead template ls")
		}
		if err != nil {
			return e2b.Reply{}, err
		}
		recipe.Template = t.Name
	}
	return e2b.Reply{Status: http.StatusAccepted}, a.Builder.Start(r.Context(), w, recipe)
}

// levels are those of entries, from the least.
func levels() []string { return []string{"debug", "info", "warn", "error"} }

// maxPage is how many entries there are in an answer.
const maxPage = 100

// reason is why a build failed.
type reason struct {
	Message string `json:"message"`
	Step    string `json:"step,omitempty"`
	// Entries are what it said last at that step.
	Entries []Entry `json:"logEntries"`
}

// maxReason is how many entries explain an end.
const maxReason = 20

// status answers to who follows a build: how far it is, and what it has said
// from a number on.
func (a *API) status(r *http.Request) (e2b.Reply, error) {
	w, err := which(r)
	if err != nil {
		return e2b.Reply{}, err
	}
	offset, err := input.Count(r, "logsOffset", 0, input.Range{Most: math.MaxInt32})
	if err != nil {
		return e2b.Reply{}, err
	}
	limit, err := input.Count(r, "limit", maxPage, input.Range{Most: maxPage})
	if err != nil {
		return e2b.Reply{}, err
	}
	level, err := input.OneOf(r, "level", levels()...)
	if err != nil {
		return e2b.Reply{}, err
	}
	b, err := a.Builder.Get(r.Context(), w)
	if err != nil {
		return e2b.Reply{}, err
	}
	// After the state: so nothing is missing once that is final.
	all, err := a.Builder.Entries(r.Context(), w, level)
	if err != nil {
		return e2b.Reply{}, err
	}
	body := map[string]any{
		"templateID": w.Template, "buildID": b.ID, "status": b.Status, "logs": []string{}, "logEntries": page(all, int(offset), int(limit)),
	}
	if b.Message != "" {
		at := slices.DeleteFunc(slices.Clone(all), func(e Entry) bool { return e.Step != b.Step })
		body["reason"] = reason{b.Message, b.Step, page(at, len(at)-maxReason, maxReason)}
	}
	return e2b.Reply{Status: http.StatusOK, Body: body}, nil
}

// page returns no more than limit entries from the one with number offset.
func page(all []Entry, offset, limit int) []Entry {
	offset = min(max(offset, 0), len(all))
	return append([]Entry{}, all[offset:min(len(all), offset+limit)]...)
}

// logs answers with what a build has said from a time on, or until one.
func (a *API) logs(r *http.Request) (e2b.Reply, error) {
	w, err := which(r)
	if err != nil {
		return e2b.Reply{}, err
	}
	cursor, err := input.Count(r, "cursor", -1, input.Range{Most: math.MaxInt64})
	if err != nil {
		return e2b.Reply{}, err
	}
	limit, err := input.Count(r, "limit", maxPage, input.Range{Most: maxPage})
	if err != nil {
		return e2b.Reply{}, err
	}
	direction, err := input.OneOf(r, "direction", "forward", "backward")
	if err != nil {
		return e2b.Reply{}, err
	}
	level, err := input.OneOf(r, "level", levels()...)
	if err != nil {
		return e2b.Reply{}, err
	}
	all, err := a.Builder.Entries(r.Context(), w, level)
	if err != nil {
		return e2b.Reply{}, err
	}
	back := direction == "backward"
	if back {
		slices.Reverse(all)
	}
	if cursor >= 0 {
		all = slices.DeleteFunc(all, func(e Entry) bool {
			at := e.Timestamp.UnixMilli()
			return back && at > cursor || !back && at < cursor
		})
	}
	return e2b.Reply{Status: http.StatusOK, Body: map[string]any{"logs": page(all, 0, int(limit))}}, nil
}
