// Package builds is the part of E2B's API by which clients have templates built:
// they ask for a build, send files, start it, and read what it says.
//
// As package e2b it reads requests, checks their form, and writes answers. What
// is built, and how, it must not know. An API is safe for concurrent use.
package builds

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/e2b"
	"bulkhead/internal/server/input"
)

// Builder builds templates.
type Builder interface {
	// Request enters a build.
	Request(ctx context.Context, r Request) (Build, error)
	// Grant says whether a team has sent files already, and by which token it may
	// send them, once.
	Grant(ctx context.Context, f Files) (present bool, token string, err error)
	// Receive takes files. It is fault.Denied for a token that is not for them.
	Receive(ctx context.Context, token string, f Files, length int64, body io.Reader) error
	// Start begins a build, which goes on after it returns.
	Start(ctx context.Context, w Which, r Recipe) error
	// Get returns a build; fault.NotFound if it is not of that template of that
	// team.
	Get(ctx context.Context, w Which) (Build, error)
	// Entries returns what it has said of a level or above, in order.
	Entries(ctx context.Context, w Which, level string) ([]Entry, error)
}

// Templates is what is there already.
type Templates interface {
	// Find returns the first of these names that there is for who is asking.
	Find(ctx context.Context, names ...string) (client.Template, error)
}

// Request is a build that is asked for. Template is a name without team and tag;
// 0 is the size of what it starts from.
type Request struct {
	Team, Template  string
	Tags            []string
	CPUs, MemoryMiB int
}

// Which names a build.
type Which struct{ Team, Template, Build string }

// Files names files that a team sends for a template.
type Files struct{ Team, Template, Hash string }

// Build is what is known of one.
type Build struct {
	ID string
	// Status is "waiting", "building", "ready" or "error".
	Status string
	// Message and Step are of an error.
	Message, Step string
}

// Entry is a line that a build has said.
type Entry struct {
	Timestamp time.Time `json:"timestamp"`
	Message   string    `json:"message"`
	Level     string    `json:"level"`
	Step      string    `json:"step,omitempty"`
}

// Recipe is what a template is built by. Template is the whole name of one that
// is there for who is asking.
type Recipe struct {
	Image    string
	Registry client.Registry
	Template string
	Force    bool
	Start    string
	Ready    string
	Steps    []Step
}

// Step is one step of a recipe.
type Step struct {
	Type      string   `json:"type"`
	Args      []string `json:"args"`
	FilesHash string   `json:"filesHash"`
	Force     bool     `json:"force"`
}

// API is that part of the API. All fields are needed.
type API struct {
	Builder   Builder
	Templates Templates
}

// Routes maps patterns of http.ServeMux to what answers them.
func (a *API) Routes() map[string]func(*http.Request) (e2b.Reply, error) {
	return map[string]func(*http.Request) (e2b.Reply, error){
		"POST /v2/templates":                              a.request,
		"POST /v3/templates":                              a.request,
		"PATCH /templates/{template}":                     a.patch,
		"PATCH /v2/templates/{template}":                  a.patch,
		"GET /templates/{template}/files/{hash}":          a.grant,
		"POST /v2/templates/{template}/builds/{build}":    a.start,
		"GET /templates/{template}/builds/{build}/status": a.status,
		"GET /templates/{template}/builds/{build}/logs":   a.logs,
	}
}

// Upload is the route by which files are sent, which asks for no key: its address
// has a token.
const Upload = "PUT /templates/{template}/files/{hash}"

// sendWithin is how long files may take that are sent.
const sendWithin = time.Hour

// request answers to who asks for a build.
func (a *API) request(r *http.Request) (e2b.Reply, error) {
	var req struct {
		Name      string   `json:"name"`
		Alias     string   `json:"alias"`
		Tags      []string `json:"tags"`
		CPUs      int      `json:"cpuCount"`
		MemoryMiB int      `json:"memoryMB"`
		FreeMiB   int      `json:"minFreeDiskMb"`
	}
	if err := input.JSON(r, &req); err != nil {
		return e2b.Reply{}, err
	}
	if req.Name == "" {
		req.Name = req.Alias
	}
	team := auth.From(r.Context()).Home()
	alias, tags, err := named(req.Name, team, req.Tags)
	if err != nil {
		return e2b.Reply{}, err
	}
	if req.FreeMiB != 0 {
		return e2b.Reply{}, fault.New(fault.Unsupported, "minFreeDiskMb: a template has the disk of what it starts from").
			Hint("start from a template with a larger disk: bulkhead template build NAME --disk")
	}
	for _, name := range names(alias, tags) {
		t, err := a.Templates.Find(r.Context(), name)
		switch {
		case err == nil && t.Public:
			return e2b.Reply{}, fault.New(fault.Exists, "template %s is the host's", name).Hint("choose another name")
		case err != nil && !fault.Is(err, fault.NotFound):
			return e2b.Reply{}, err
		}
	}
	b, err := a.Builder.Request(r.Context(), Request{Team: team, Template: alias, Tags: tags, CPUs: req.CPUs, MemoryMiB: req.MemoryMiB})
	return e2b.Reply{Status: http.StatusAccepted, Body: map[string]any{
		"templateID": alias, "buildID": b.ID, "public": false, "names": []string{alias}, "tags": tags, "aliases": []string{alias},
	}}, err
}

// maxTags bounds how many names a build gives.
const maxTags = 20

// named reads what a template is to be called.
func named(name, team string, more []string) (alias string, tags []string, err error) {
	ref, err := e2b.ParseReference(name)
	switch {
	case err != nil:
		return "", nil, err
	case ref.Team != "" && ref.Team != team:
		return "", nil, fault.New(fault.Invalid, "template %q: %s is not your team", input.Quoted(name), ref.Team)
	}
	if strings.Contains(name, ":") || len(more) == 0 {
		tags = []string{ref.Tag}
	}
	for _, tag := range more {
		t, err := e2b.ParseReference(ref.Alias + ":" + tag)
		if err != nil {
			return "", nil, err
		}
		if !slices.Contains(tags, t.Tag) {
			tags = append(tags, t.Tag)
		}
	}
	if len(tags) > maxTags {
		return "", nil, fault.New(fault.Invalid, "%d tags are more than %d", len(tags), maxTags)
	}
	return ref.Alias, tags, nil
}

// names are those that a template of the host would have.
func names(alias string, tags []string) (all []string) {
	for _, tag := range tags {
		all = append(all, e2b.Reference{Alias: alias, Tag: tag}.Built())
	}
	return all
}

// patch changes who may use a template. There is nothing to change: one that was
// built is its team's.
func (a *API) patch(r *http.Request) (e2b.Reply, error) {
	var req struct {
		Public *bool `json:"public"`
	}
	if err := input.JSON(r, &req); err != nil {
		return e2b.Reply{}, err
	}
	ref, err := e2b.ParseReference(r.PathValue("template"))
	if err != nil {
		return e2b.Reply{}, err
	}
	t, err := a.Templates.Find(r.Context(), ref.Of(auth.From(r.Context()).Home()))
	switch {
	case err != nil:
		return e2b.Reply{}, err
	case req.Public != nil && *req.Public:
		return e2b.Reply{}, fault.New(fault.Unsupported, "templates of a team are not made public").
			Hint("build it for the whole host: bulkhead template build")
	}
	return e2b.Reply{Status: http.StatusOK, Body: map[string]any{"names": []string{t.Name}}}, nil
}

// which reads whose build a path names.
func which(r *http.Request) (Which, error) {
	ref, err := e2b.ParseReference(r.PathValue("template"))
	w := Which{Team: auth.From(r.Context()).Home(), Template: ref.Alias, Build: r.PathValue("build")}
	if ref.Team != "" && ref.Team != w.Team {
		return w, fault.New(fault.NotFound, "template %q not found", ref.Alias)
	}
	return w, err
}

// grant answers to who wants to send files.
func (a *API) grant(r *http.Request) (e2b.Reply, error) {
	w, err := which(r)
	if err != nil {
		return e2b.Reply{}, err
	}
	hash := r.PathValue("hash")
	present, token, err := a.Builder.Grant(r.Context(), Files{w.Team, w.Template, hash})
	if err != nil {
		return e2b.Reply{}, err
	}
	to := url.URL{
		Scheme: "http", Host: r.Host, Path: "/templates/" + w.Template + "/files/" + hash, RawQuery: url.Values{"token": {token}}.Encode(),
	}
	if r.TLS != nil {
		to.Scheme = "https"
	}
	return e2b.Reply{Status: http.StatusCreated, Body: map[string]any{"present": present, "url": to.String()}}, nil
}

// Receive takes files that are sent to where grant has said.
func (a *API) Receive(w http.ResponseWriter, r *http.Request) error {
	// A recorder of tests has no connection, and so no deadline.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(sendWithin))
	f := Files{Template: r.PathValue("template"), Hash: r.PathValue("hash")}
	if err := a.Builder.Receive(r.Context(), r.URL.Query().Get("token"), f, r.ContentLength, r.Body); err != nil {
		return err
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	w.WriteHeader(http.StatusOK)
	return nil
}
