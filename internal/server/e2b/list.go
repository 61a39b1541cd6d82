package e2b

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/input"
)

// anyState is the state by which our own client asks for all of them.
const anyState = "any"

// shown is a sandbox in the states that E2B's clients know; false for one that
// they do not know of, because it neither runs nor is paused.
func shown(s client.Sandbox) (client.Sandbox, bool) {
	switch s.State {
	case client.StateRunning, client.StateSuspended, client.StateHeld, client.StateStarting, client.StateRollingBack:
		s.State = client.StateRunning
	case client.StatePaused:
	default:
		return s, false
	}
	return s, true
}

// look returns a sandbox as such clients know it.
func (a *API) look(ctx context.Context, ref string) (client.Sandbox, error) {
	s, err := a.Sandboxes.Get(ctx, ref)
	if err != nil {
		return s, err
	}
	s, known := shown(s)
	if !known {
		return s, notFound(ref)
	}
	return s, nil
}

func (a *API) get(r *http.Request) (Reply, error) {
	do := a.look
	if r.URL.Query().Get("state") == anyState {
		do = a.Sandboxes.Get
	}
	s, err := do(r.Context(), r.PathValue("ref"))
	return ok(s), err
}

// listFirst is of the first generation: those that run, in one piece.
func (a *API) listFirst(r *http.Request) (Reply, error) {
	f := filter{states: []string{string(client.StateRunning)}}
	var err error
	if f.metadata, err = metadata(r); err != nil {
		return Reply{}, err
	}
	all, err := a.filtered(r.Context(), f)
	return ok(all), err
}

// filter says which sandboxes are meant.
type filter struct {
	metadata map[string]string
	// states are those that are meant; any stands for all that there are.
	states  []string
	any     bool
	after   time.Time
	origin  string // a template's name; "" for every one
	ordered string // "asc" or "desc"
}

func (a *API) list(r *http.Request) (Reply, error) {
	f, err := a.readFilter(r)
	if err != nil {
		return Reply{}, err
	}
	p, err := readPage(r, f.ordered)
	if err != nil {
		return Reply{}, err
	}
	all, err := a.filtered(r.Context(), f)
	if err != nil {
		return Reply{}, err
	}
	header := http.Header{}
	if f.any || slices.Contains(f.states, string(client.StateRunning)) {
		n := 0
		for _, s := range all {
			if s.State == client.StateRunning {
				n++
			}
		}
		header.Set("X-Total-Running", strconv.Itoa(n))
	}
	page, next := cut(all, p, func(s client.Sandbox) (time.Time, string) { return s.StartedAt, s.ID })
	if next != "" {
		header.Set("X-Next-Token", next)
	}
	return Reply{Status: http.StatusOK, Header: header, Body: page}, nil
}

func (a *API) readFilter(r *http.Request) (f filter, err error) {
	if f.metadata, err = metadata(r); err != nil {
		return f, err
	}
	if f.after, err = input.Time(r, "startedAfter"); err != nil {
		return f, err
	}
	if f.ordered, err = input.OneOf(r, "order", "desc", "asc"); err != nil {
		return f, err
	}
	f.states = []string{string(client.StateRunning), string(client.StatePaused)}
	switch v := r.URL.Query().Get("state"); v {
	case "":
	case anyState:
		f.any = true
	default:
		for s := range strings.SplitSeq(v, ",") {
			if !slices.Contains([]string{string(client.StateRunning), string(client.StatePaused)}, s) {
				return f, fault.New(fault.Invalid, "query parameter state: %q is not running or paused", input.Quoted(s))
			}
		}
		f.states = strings.Split(v, ",")
	}
	if t := r.URL.Query().Get("template"); t != "" {
		if strings.Contains(t, ":") {
			return f, fault.New(fault.Invalid, "query parameter template: %q has a tag", input.Quoted(t))
		}
		f.origin = strings.ToLower(t)
	}
	return f, nil
}

// metadata reads what sandboxes must have been labelled with. SDKs escape keys
// and values, then what they make of them as a form, and then that again as a
// part of the query.
func metadata(r *http.Request) (map[string]string, error) {
	raw, err := url.QueryUnescape(r.URL.Query().Get("metadata"))
	if err != nil {
		return nil, fault.New(fault.Invalid, "query parameter metadata: %w", err)
	}
	wanted := map[string]string{}
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		k, kerr := url.QueryUnescape(key)
		v, verr := url.QueryUnescape(value)
		if kerr != nil || verr != nil {
			return nil, fault.New(fault.Invalid, "query parameter metadata: %q is not escaped", input.Quoted(pair))
		}
		wanted[k] = v
	}
	return wanted, nil
}

// filtered lists the sandboxes that are meant, in order.
func (a *API) filtered(ctx context.Context, f filter) ([]client.Sandbox, error) {
	every, err := a.Sandboxes.List(ctx)
	if err != nil {
		return nil, err
	}
	all := []client.Sandbox{}
	for _, s := range every {
		if f.any || f.knows(&s) {
			s.AgentToken, s.TrafficToken = "", "" // they are for who asks for the one
			all = append(all, s)
		}
	}
	all = slices.DeleteFunc(all, func(s client.Sandbox) bool { return !f.fits(s) })
	slices.SortFunc(all, func(a, b client.Sandbox) int {
		return cmp.Or(b.StartedAt.Compare(a.StartedAt), cmp.Compare(a.ID, b.ID))
	})
	if f.ordered == "asc" {
		slices.Reverse(all)
	}
	return all, nil
}

// knows puts s into the states that clients know, and reports whether it is in
// one that is meant.
func (f filter) knows(s *client.Sandbox) (known bool) {
	*s, known = shown(*s)
	return known && slices.Contains(f.states, string(s.State))
}

func (f filter) fits(s client.Sandbox) bool {
	for k, v := range f.metadata {
		if have, labelled := s.Metadata[k]; !labelled || have != v {
			return false
		}
	}
	// Microseconds are what times survive in that clients send back.
	if s.StartedAt.Truncate(time.Microsecond).Before(f.after.Truncate(time.Microsecond)) {
		return false
	}
	alias, _ := split(s.TemplateID)
	return f.origin == "" || s.TemplateID == f.origin || alias == f.origin
}

// page is which part of a list is meant.
type page struct {
	limit int
	// The list goes on behind this one; "" from its beginning.
	behind string
	at     time.Time
	order  string
}

// maxPage is how much of a list there is in one answer.
const maxPage = 100

// readPage reads which part is meant. Its token is what cut has made, for the
// same order.
func readPage(r *http.Request, order string) (page, error) {
	limit, err := input.Count(r, "limit", maxPage, input.Range{Least: 1, Most: maxPage})
	p := page{limit: int(limit), order: order}
	token := r.URL.Query().Get("nextToken")
	if err != nil || token == "" {
		return p, err
	}
	bad := fault.New(fault.Invalid, "invalid next token")
	b, err := base64.URLEncoding.DecodeString(token)
	if err != nil {
		return p, bad
	}
	at, id, _ := strings.Cut(string(b), "__")
	id, of, ascends := strings.Cut(id, "__")
	if p.at, err = time.Parse(time.RFC3339Nano, at); err != nil || id == "" || ascends != (order == "asc") || ascends && of != "asc" {
		return p, bad
	}
	p.behind = id
	return p, nil
}

// cut returns the part of an ordered list that is meant, and the token for what
// is behind it; "" for nothing. key is what the list is ordered by.
func cut[T any](all []T, p page, key func(T) (time.Time, string)) (part []T, next string) {
	from := 0
	if p.behind != "" {
		from = len(all)
		for i, v := range all {
			at, id := key(v)
			order := cmp.Or(p.at.Compare(at), cmp.Compare(id, p.behind))
			if p.order == "asc" {
				order = -order
			}
			if order > 0 {
				from = i
				break
			}
		}
	}
	part = all[from:min(from+p.limit, len(all))]
	if from+p.limit < len(all) {
		at, id := key(part[len(part)-1])
		token := at.Format(time.RFC3339Nano) + "__" + id
		if p.order == "asc" {
			token += "__asc"
		}
		next = base64.URLEncoding.EncodeToString([]byte(token))
	}
	return part, next
}
