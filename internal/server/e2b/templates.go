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
	"bulkhead/internal/server/auth"
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

// Reference is what a client writes for a template.
type Reference struct {
	// Team is "" if it names none.
	Team, Alias, Tag string
}

// ParseReference reads [team/]alias[:tag], in which upper case means lower.
func ParseReference(ref string) (r Reference, err error) {
	name := strings.ToLower(strings.TrimSpace(ref))
	if team, rest, has := strings.Cut(name, "/"); has {
		r.Team, name = team, rest
	}
	r.Alias, r.Tag = split(name)
	if strings.Contains(name, "/") || !aliasForm.MatchString(r.Alias) || !tagForm.MatchString(r.Tag) || r.Team != "" && auth.CheckTeam(r.Team) != nil {
		return r, fault.New(fault.Invalid, "%q is not the name of a template", input.Quoted(ref)).
			Hint("write NAME, NAME:TAG or TEAM/NAME:TAG of a-z, 0-9, - and _")
	}
	return r, nil
}

// Built is the name of a template of the host.
func (r Reference) Built() string {
	if r.Tag == defaultTag {
		return r.Alias
	}
	return r.Alias + ":" + r.Tag
}

// Of is the name of what is a team's.
func (r Reference) Of(team string) string { return team + "/" + r.Built() }

// Names are those that it can mean to a team: without one in it, what is the
// host's before what is the team's.
func (r Reference) Names(team string) []string {
	if r.Team != "" {
		return []string{r.Of(r.Team)}
	}
	return []string{r.Built(), r.Of(team)}
}

// team is that of who is asking.
func team(ctx context.Context) string { return auth.From(ctx).Home() }

// find returns the template that a reference names.
func (a *API) find(ctx context.Context, ref string) (client.Template, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return client.Template{}, err
	}
	t, err := a.Templates.Find(ctx, r.Names(team(ctx))...)
	if fault.Is(err, fault.NotFound) {
		err = fault.New(fault.NotFound, "template %q not found", r.Built()).Hint("bulkhead template ls")
	}
	return wireTemplate(t), err
}

// mayChange returns an error unless a template is the asker's to change: those of
// the host are for its owner.
func mayChange(ctx context.Context, t client.Template) error {
	p := auth.From(ctx)
	switch {
	case !t.Public:
		return nil // it is there for its own team only
	case !p.Owner():
		return fault.New(fault.Denied, "template %s is the host's", t.Name)
	}
	return p.Need(auth.Admin)
}

// wireTemplate is a template with the names that clients know it by.
func wireTemplate(t client.Template) client.Template {
	alias, _ := split(t.Name)
	t.Names, t.Aliases = []string{}, []string{}
	if alias != "" && !unnamedForm.MatchString(alias) {
		t.Names, t.Aliases = []string{alias}, []string{alias}
	}
	t.SpawnCount = t.Sandboxes
	return t
}

// split returns the alias and the tag of a template's name.
func split(name string) (alias, tag string) {
	_, after, ofTeam := strings.Cut(name, "/")
	if ofTeam {
		name = after
	}
	alias, tag, _ = strings.Cut(name, ":")
	if tag == "" {
		tag = defaultTag
	}
	return alias, tag
}

func (a *API) listTemplates(r *http.Request) (Reply, error) {
	all, err := a.Templates.List(r.Context())
	list := make([]client.Template, len(all))
	for i, t := range all {
		list[i] = wireTemplate(t)
	}
	return ok(list), err
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

// removeTemplate removes a template or a snapshot. A snapshot that sandboxes came
// from stays as long as they do.
func (a *API) removeTemplate(r *http.Request) (Reply, error) {
	t, err := a.find(r.Context(), r.PathValue("template"))
	if err == nil {
		err = mayChange(r.Context(), t)
	}
	if err != nil {
		return Reply{}, err
	}
	if t.Origin != "" && t.Sandboxes > 0 {
		return Reply{}, fault.New(fault.Invalid, "%d sandboxes came from snapshot %s", t.Sandboxes, t.Name).Hint("remove them first")
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
	if err == nil {
		err = mayChange(r.Context(), t)
	}
	if err != nil {
		return Reply{}, err
	}
	names, err := tagged(t.Name, req.Tags)
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
	names, err := tagged(req.Name, req.Tags)
	if err != nil {
		return Reply{}, err
	}
	for _, name := range names {
		t, err := a.find(r.Context(), name)
		if err == nil {
			err = mayChange(r.Context(), t)
		}
		if err == nil {
			err = a.Templates.Remove(r.Context(), t.Name)
		}
		if err != nil {
			return Reply{}, err
		}
	}
	return done(), nil
}

// tagged returns the names of a template with each of these tags.
func tagged(name string, tags []string) (names []string, err error) {
	if len(tags) == 0 {
		return nil, fault.New(fault.Invalid, "there are no tags")
	}
	r, err := ParseReference(name)
	if err != nil {
		return nil, err
	}
	for _, r.Tag = range tags {
		if !tagForm.MatchString(r.Tag) {
			return nil, fault.New(fault.Invalid, "%q is no tag", input.Quoted(r.Tag))
		}
		as := r.Built()
		if r.Team != "" {
			as = r.Of(r.Team)
		}
		names = append(names, as)
	}
	return names, nil
}

func (a *API) tags(ctx context.Context, ref string) (Reply, error) {
	wanted, err := ParseReference(ref)
	if err != nil {
		return Reply{}, err
	}
	all, err := a.Templates.List(ctx)
	if err != nil {
		return Reply{}, err
	}
	type tagged struct {
		Tag       string    `json:"tag"`
		BuildID   string    `json:"buildID"`
		CreatedAt time.Time `json:"createdAt"`
	}
	tags := []tagged{}
	for _, t := range all {
		if alias, tag := split(t.Name); alias == wanted.Alias {
			tags = append(tags, tagged{tag, t.BuildID, t.CreatedAt})
		}
	}
	if len(tags) == 0 {
		return Reply{}, fault.New(fault.NotFound, "template %q not found", wanted.Alias).Hint("bulkhead template ls")
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
	if req.Memory != nil && !*req.Memory {
		return Reply{}, fault.New(fault.Unsupported, "memory: a snapshot is of the whole machine").Hint("pause with memory false keeps the disk alone")
	}
	as := Reference{Alias: madeUp(), Tag: defaultTag}
	if req.Name != "" {
		var err error
		if as, err = ParseReference(req.Name); err != nil {
			return Reply{}, err
		}
		if as.Team != "" && as.Team != team(r.Context()) {
			return Reply{}, fault.New(fault.Invalid, "snapshot %q: %s is not your team", input.Quoted(req.Name), as.Team)
		}
	}
	t, err := a.Snapshots.Publish(r.Context(), ref, as.Of(team(r.Context())))
	return Reply{Status: http.StatusCreated, Body: wireSnapshot(t)}, err
}

// wireSnapshot is a snapshot that outlives its sandbox, as clients know it.
func wireSnapshot(t client.Template) client.Snapshot {
	alias, tag := split(t.Name)
	s := client.Snapshot{
		ID: alias + ":" + tag, Names: []string{}, SandboxID: t.Origin, CreatedAt: t.CreatedAt, Cause: "template", OwnBytes: t.OwnBytes,
	}
	if !unnamedForm.MatchString(alias) {
		of, _, _ := strings.Cut(t.Name, "/")
		named := of + "/" + alias
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
	var wanted Reference
	if name := q.Get("name"); name != "" {
		if wanted, err = ParseReference(name); err != nil {
			return Reply{}, err
		}
		if !strings.Contains(name, ":") {
			wanted.Tag = ""
		}
	}
	snaps := []client.Snapshot{}
	for _, t := range all {
		alias, tag := split(t.Name)
		of := q.Get("sandboxID")
		if t.Origin == "" || of != "" && t.Origin != of || wanted.Alias != "" && alias != wanted.Alias || wanted.Tag != "" && tag != wanted.Tag {
			continue
		}
		snaps = append(snaps, wireSnapshot(t))
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
