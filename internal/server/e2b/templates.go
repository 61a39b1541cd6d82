package e2b

import (
	"context"
	"crypto/rand"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/input"
)

// What a reference to a template consists of: [namespace/]alias[:tag].
var (
	aliasForm = regexp.MustCompile(`^[a-z0-9-_]{1,128}$`)
	tagForm   = regexp.MustCompile(`^[a-z0-9-_.]{1,128}$`)
	// unnamedForm is an alias that was made up.
	unnamedForm = regexp.MustCompile(`^[a-z0-9]{20}$`)
)

// defaultTag is that of a reference without one.
const defaultTag = "default"

// templateName reads a reference to a template and returns its name on this
// host: the alias, with the tag unless that is the default.
func (a *API) templateName(ctx context.Context, ref string) (string, error) {
	name := strings.ToLower(strings.TrimSpace(ref))
	if team, rest, has := strings.Cut(name, "/"); has {
		if team != a.Team(ctx) {
			return "", fault.New(fault.Invalid, "template %q: %q is not your team", input.Quoted(ref), input.Quoted(team))
		}
		name = rest
	}
	alias, tag, has := strings.Cut(name, ":")
	if !aliasForm.MatchString(alias) || has && !tagForm.MatchString(tag) {
		return "", fault.New(fault.Invalid, "%q is not the name of a template", input.Quoted(ref)).
			Hint("write NAME, NAME:TAG or TEAM/NAME:TAG of a-z, 0-9, - and _")
	}
	if tag == "" || tag == defaultTag {
		return alias, nil
	}
	return alias + ":" + tag, nil
}

// wireTemplate is a template with the names that clients know it by.
func (a *API) wireTemplate(t client.Template) client.Template {
	alias, _ := split(t.Name)
	t.Names, t.Aliases = []string{}, []string{}
	if !unnamedForm.MatchString(alias) {
		t.Names, t.Aliases = []string{alias}, []string{alias}
	}
	t.Public, t.BuildStatus, t.BuildCount, t.SpawnCount = true, "ready", 1, t.Sandboxes
	t.UpdatedAt = t.CreatedAt
	return t
}

// split returns the alias and the tag of a template's name.
func split(name string) (alias, tag string) {
	alias, tag, has := strings.Cut(name, ":")
	if !has {
		tag = defaultTag
	}
	return alias, tag
}

func (a *API) listTemplates(r *http.Request) (Reply, error) {
	all, err := a.Templates.List(r.Context())
	list := make([]client.Template, len(all))
	for i, t := range all {
		list[i] = a.wireTemplate(t)
	}
	return ok(list), err
}

// find returns the template that a reference names.
func (a *API) find(ctx context.Context, ref string) (client.Template, error) {
	name, err := a.templateName(ctx, ref)
	if err != nil {
		return client.Template{}, err
	}
	all, err := a.Templates.List(ctx)
	if err != nil {
		return client.Template{}, err
	}
	for _, t := range all {
		if t.Name == name {
			return a.wireTemplate(t), nil
		}
	}
	return client.Template{}, fault.New(fault.NotFound, "template %q not found", name).Hint("bulkhead template ls")
}

func (a *API) template(r *http.Request) (Reply, error) {
	t, err := a.find(r.Context(), r.PathValue("template"))
	return ok(t), err
}

// part answers for two paths that a mux cannot tell apart:
// /templates/aliases/{alias} and /templates/{template}/tags.
func (a *API) part(r *http.Request) (Reply, error) {
	name, part := r.PathValue("template"), r.PathValue("part")
	switch {
	case name == "aliases":
		return a.alias(r.Context(), part)
	case part == "tags":
		return a.tags(r.Context(), name)
	}
	return Reply{}, fault.New(fault.NotFound, "templates have no %q", input.Quoted(part))
}

func (a *API) alias(ctx context.Context, alias string) (Reply, error) {
	t, err := a.find(ctx, alias)
	return ok(map[string]any{"templateID": t.ID, "public": t.Public}), err
}

// removeTemplate removes a template or a snapshot. One that sandboxes are moments
// of stays as long as they do.
func (a *API) removeTemplate(r *http.Request) (Reply, error) {
	t, err := a.find(r.Context(), r.PathValue("template"))
	if err != nil {
		return Reply{}, err
	}
	if t.Origin != "" && t.Sandboxes > 0 {
		return Reply{}, fault.New(fault.Invalid, "snapshot %s has %d sandboxes that came from it", t.Name, t.Sandboxes).Hint("remove them first")
	}
	return done(), a.Templates.Remove(r.Context(), t.Name)
}

func (a *API) tag(r *http.Request) (Reply, error) {
	var req struct {
		Target string   `json:"target"`
		Tags   []string `json:"tags"`
	}
	if err := input.JSON(r, &req); err != nil {
		return Reply{}, err
	}
	t, err := a.find(r.Context(), req.Target)
	if err != nil {
		return Reply{}, err
	}
	names, err := a.tagged(r.Context(), t.Name, req.Tags)
	if err != nil {
		return Reply{}, err
	}
	for _, as := range names {
		if err := a.Templates.Tag(r.Context(), t.Name, as); err != nil {
			return Reply{}, err
		}
	}
	return Reply{Status: http.StatusCreated, Body: map[string]any{"tags": req.Tags, "buildID": t.BuildID}}, nil
}

func (a *API) untag(r *http.Request) (Reply, error) {
	var req struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}
	if err := input.JSON(r, &req); err != nil {
		return Reply{}, err
	}
	names, err := a.tagged(r.Context(), req.Name, req.Tags)
	if err != nil {
		return Reply{}, err
	}
	for _, name := range names {
		if err := a.Templates.Remove(r.Context(), name); err != nil {
			return Reply{}, err
		}
	}
	return done(), nil
}

// tagged returns the names of a template with each of these tags.
func (a *API) tagged(ctx context.Context, name string, tags []string) (names []string, err error) {
	if len(tags) == 0 {
		return nil, fault.New(fault.Invalid, "there are no tags")
	}
	alias, _ := split(name)
	for _, tag := range tags {
		as, err := a.templateName(ctx, alias+":"+tag)
		if err != nil {
			return nil, err
		}
		names = append(names, as)
	}
	return names, nil
}

func (a *API) tags(ctx context.Context, ref string) (Reply, error) {
	name, err := a.templateName(ctx, ref)
	if err != nil {
		return Reply{}, err
	}
	all, err := a.Templates.List(ctx)
	if err != nil {
		return Reply{}, err
	}
	wanted, _ := split(name)
	type tagged struct {
		Tag       string    `json:"tag"`
		BuildID   string    `json:"buildID"`
		CreatedAt time.Time `json:"createdAt"`
	}
	tags := []tagged{}
	for _, t := range all {
		if alias, tag := split(t.Name); alias == wanted {
			tags = append(tags, tagged{tag, t.BuildID, t.CreatedAt})
		}
	}
	if len(tags) == 0 {
		return Reply{}, fault.New(fault.NotFound, "template %q not found", name).Hint("bulkhead template ls")
	}
	return ok(tags), nil
}

// madeUp makes up the alias of a snapshot that nobody names.
func madeUp() string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, 20)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)] // the bias is harmless: it is no secret
	}
	return string(b)
}

// snapshot takes one for the timeline of a sandbox if our own client asks, or
// one that outlives it.
func (a *API) snapshot(r *http.Request) (Reply, error) {
	var req client.SnapshotRequest
	if err := input.JSON(r, &req); err != nil {
		return Reply{}, err
	}
	ref := r.PathValue("ref")
	if req.Timeline {
		s, err := a.Snapshots.Take(r.Context(), ref, req)
		s.Names = []string{}
		return Reply{Status: http.StatusCreated, Body: s}, err
	}
	name := madeUp()
	if req.Name != "" {
		var err error
		if name, err = a.templateName(r.Context(), req.Name); err != nil {
			return Reply{}, err
		}
		if err := a.mayReplace(r.Context(), name); err != nil {
			return Reply{}, err
		}
	}
	t, err := a.Snapshots.Publish(r.Context(), ref, name)
	return Reply{Status: http.StatusCreated, Body: a.wireSnapshot(r.Context(), t)}, err
}

// mayReplace refuses to put a snapshot in the place of a template that was built.
func (a *API) mayReplace(ctx context.Context, name string) error {
	all, err := a.Templates.List(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(t client.Template) bool { return t.Name == name && t.Origin == "" }) {
		return fault.New(fault.Exists, "%s is a template that was built", name).Hint("choose another name")
	}
	return nil
}

// wireSnapshot is a snapshot that outlives its sandbox, as clients know it.
func (a *API) wireSnapshot(ctx context.Context, t client.Template) client.Snapshot {
	alias, tag := split(t.Name)
	s := client.Snapshot{
		ID: alias + ":" + tag, Names: []string{}, SandboxID: t.Origin, CreatedAt: t.CreatedAt, Cause: "template", OwnBytes: t.OwnBytes,
	}
	if !unnamedForm.MatchString(alias) {
		named := a.Team(ctx) + "/" + alias
		s.ID, s.Names = named+":"+tag, []string{named}
	}
	return s
}

func (a *API) listSnapshots(r *http.Request) (Reply, error) {
	p, err := readPage(r, "desc")
	if err != nil {
		return Reply{}, err
	}
	all, err := a.Templates.List(r.Context())
	if err != nil {
		return Reply{}, err
	}
	q := r.URL.Query()
	var wanted, tag string
	if name := q.Get("name"); name != "" {
		if wanted, err = a.templateName(r.Context(), name); err != nil {
			return Reply{}, err
		}
		wanted, tag = split(wanted)
		if !strings.Contains(name, ":") {
			tag = ""
		}
	}
	snaps := []client.Snapshot{}
	for _, t := range all {
		alias, has := split(t.Name)
		of := q.Get("sandboxID")
		if t.Origin == "" || of != "" && t.Origin != of || wanted != "" && alias != wanted || tag != "" && tag != has {
			continue
		}
		snaps = append(snaps, a.wireSnapshot(r.Context(), t))
	}
	slices.SortFunc(snaps, func(a, b client.Snapshot) int {
		if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	part, next := cut(snaps, p, func(s client.Snapshot) (time.Time, string) { return s.CreatedAt, s.ID })
	header := http.Header{}
	if next != "" {
		header.Set("X-Next-Token", next)
	}
	return Reply{Status: http.StatusOK, Header: header, Body: part}, nil
}
