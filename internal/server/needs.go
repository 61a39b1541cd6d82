package server

import (
	"net/http"
	"regexp"
	"strings"

	"bulkhead/internal/duplex"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
)

// need is what a route asks of who is asking.
type need struct {
	scope auth.Scope
	about extent
}

// extent is what a route is about.
type extent int

const (
	// teams routes are about what the principal sees: one sandbox, named by
	// {ref} in the pattern, or a list that is cut down to it.
	teams extent = iota
	// makes routes add a sandbox: not for who has but one.
	makes
	// hosts routes are about what all teams share.
	hosts
	// anybody may ask.
	anybody
)

// needs says what every route needs. A route that is not here cannot be added.
// What decides what a sandbox may do needs Admin, because an agent may be given
// a key with the scope Operate for its own machine.
func needs() map[string]need {
	return map[string]need{
		"GET /health":  {auth.None, anybody},
		"GET /ready":   {auth.None, anybody},
		"GET /metrics": {auth.Read, hosts},
		"GET /version": {auth.Read, teams},

		"GET /openapi.yaml": {auth.None, anybody},

		"POST /sandboxes/import":                       {auth.Operate, makes},
		"GET /sandboxes/{ref}/console":                 {auth.Read, teams},
		"GET /sandboxes/{ref}/export":                  {auth.Operate, teams},
		"POST /sandboxes/{ref}/ports/{port}":           {auth.Operate, teams},
		"GET /sandboxes/{ref}/timeline":                {auth.Read, teams},
		"GET /sandboxes/{ref}/diff":                    {auth.Operate, teams}, // starts machines
		"DELETE /sandboxes/{ref}/snapshots/{snapshot}": {auth.Operate, teams},
		"POST /sandboxes/{ref}/rollback":               {auth.Operate, teams},
		"POST /sandboxes/{ref}/start":                  {auth.Operate, teams},
		"POST /sandboxes/{ref}/restart":                {auth.Operate, teams},
		"PUT /sandboxes/{ref}/schedule":                {auth.Operate, teams},
		"GET /sandboxes/{ref}/egress":                  {auth.Read, teams},
		"PUT /sandboxes/{ref}/egress":                  {auth.Admin, teams},
		"POST /sandboxes/{ref}/egress/rules":           {auth.Admin, teams},
		"POST /sandboxes/{ref}/egress/test":            {auth.Read, teams},
		"POST /sandboxes/{ref}/egress/ask":             {auth.Operate, teams},
		"POST /sandboxes/{ref}/egress/answer":          {auth.Admin, teams},
		"POST /sandboxes/{ref}/egress/learn":           {auth.Admin, teams},
		"GET /sandboxes/{ref}/egress/learn":            {auth.Read, teams},
		"POST /sandboxes/{ref}/egress/replay":          {auth.Read, teams},
		"GET /sandboxes/{ref}/blast-radius":            {auth.Read, teams},
		"GET /egress/pending":                          {auth.Read, teams},
		"GET /events":                                  {auth.Read, teams},
		"GET /events/verified":                         {auth.Read, hosts},

		"GET /keys":                      {auth.Admin, hosts},
		"POST /keys":                     {auth.Admin, hosts},
		"DELETE /keys/{name}":            {auth.Admin, hosts},
		"GET /secrets":                   {auth.Read, hosts},
		"PUT /secrets/{name}":            {auth.Admin, hosts},
		"DELETE /secrets/{name}":         {auth.Admin, hosts},
		"POST /templates":                {auth.Admin, hosts},
		"PUT /templates/{name}/schedule": {auth.Admin, hosts},
		"POST /mcp":                      {auth.Read, teams}, // each tool has needs of its own

		"GET /ssh":               {auth.Read, teams},
		"GET /ssh/keys":          {auth.Admin, teams},
		"POST /ssh/keys":         {auth.Admin, teams},
		"DELETE /ssh/keys/{key}": {auth.Admin, teams},
	}
}

// needsOfPage says what the routes need that the console adds (Options.More). It
// speaks to them alone: they are not in the document of the API.
func needsOfPage() map[string]need {
	return map[string]need{
		"GET /{$}":                                    {auth.None, anybody},
		"GET /console/{file}":                         {auth.None, anybody},
		"POST /session":                               {auth.None, anybody},
		"GET /session":                                {auth.None, anybody},
		"DELETE /session":                             {auth.None, anybody},
		"GET /overview":                               {auth.Read, teams},
		"GET /live":                                   {auth.Read, teams},
		"GET /doctor":                                 {auth.Read, hosts},
		"POST /sandboxes/{ref}/egress/check":          {auth.Read, teams},
		"GET /sandboxes/{ref}/terminal":               {auth.Operate, teams},
		"GET /sandboxes/{ref}/folder":                 {auth.Operate, teams},
		"POST /sandboxes/{ref}/folder":                {auth.Operate, teams},
		"GET /sandboxes/{ref}/file":                   {auth.Operate, teams},
		"PUT /sandboxes/{ref}/file":                   {auth.Operate, teams},
		"DELETE /sandboxes/{ref}/file":                {auth.Operate, teams},
		"POST /sandboxes/{ref}/file":                  {auth.Operate, teams},
		"GET /sandboxes/{ref}/programs":               {auth.Operate, teams},
		"POST /sandboxes/{ref}/programs/{pid}/signal": {auth.Operate, teams},
	}
}

// needsOfE2B says what the routes need that clients of E2B know. Who may remove
// and tag which template is decided by whose it is.
func needsOfE2B() map[string]need {
	return map[string]need{
		"POST /sandboxes":                  {auth.Operate, makes},
		"POST /v2/sandboxes":               {auth.Operate, makes},
		"GET /sandboxes":                   {auth.Read, teams},
		"GET /v2/sandboxes":                {auth.Read, teams},
		"GET /sandboxes/metrics":           {auth.Read, teams},
		"GET /sandboxes/{ref}":             {auth.Read, teams},
		"DELETE /sandboxes/{ref}":          {auth.Operate, teams},
		"POST /sandboxes/{ref}/pause":      {auth.Operate, teams},
		"POST /sandboxes/{ref}/resume":     {auth.Operate, teams},
		"POST /sandboxes/{ref}/connect":    {auth.Operate, teams},
		"POST /v2/sandboxes/{ref}/connect": {auth.Operate, teams},
		"POST /sandboxes/{ref}/timeout":    {auth.Operate, teams},
		"POST /sandboxes/{ref}/refreshes":  {auth.Operate, teams},
		"POST /sandboxes/{ref}/fork":       {auth.Operate, makes},
		"PUT /sandboxes/{ref}/network":     {auth.Admin, teams},
		"POST /sandboxes/{ref}/snapshots":  {auth.Operate, teams},
		"GET /snapshots":                   {auth.Read, teams},
		"GET /sandboxes/{ref}/metrics":     {auth.Read, teams},
		"GET /sandboxes/{ref}/logs":        {auth.Read, teams},
		"GET /v2/sandboxes/{ref}/logs":     {auth.Read, teams},
		"GET /templates":                   {auth.Read, teams},
		"GET /v2/templates":                {auth.Read, teams},
		"GET /templates/{template}":        {auth.Read, teams},
		"DELETE /templates/{template}":     {auth.Operate, teams},
		"GET /templates/{template}/{part}": {auth.Read, teams},
		"POST /templates/tags":             {auth.Operate, makes},
		"DELETE /templates/tags":           {auth.Operate, makes},

		"POST /v2/templates":                              {auth.Operate, makes},
		"POST /v3/templates":                              {auth.Operate, makes},
		"PATCH /templates/{template}":                     {auth.Operate, makes},
		"PATCH /v2/templates/{template}":                  {auth.Operate, makes},
		"GET /templates/{template}/files/{hash}":          {auth.Operate, makes},
		"PUT /templates/{template}/files/{hash}":          {auth.None, anybody}, // its address has a token
		"POST /v2/templates/{template}/builds/{build}":    {auth.Operate, makes},
		"GET /templates/{template}/builds/{build}/status": {auth.Read, makes},
		"GET /templates/{template}/builds/{build}/logs":   {auth.Read, makes},
	}
}

// handle adds a route. A sandbox that its path names is looked up first, for who
// is asking; what serves the route finds its whole id there.
func (s *Server) handle(pattern string, serve http.HandlerFunc) {
	n, ok := s.needs[pattern]
	if !ok {
		panic("route without a need: " + pattern)
	}
	named := strings.Contains(pattern, "{ref}")
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		who := auth.From(r.Context())
		if !who.Known() {
			// Strangers shall not hold connections that are counted.
			w.Header().Set("Connection", "close")
		}
		err := n.admit(who)
		if err == nil && named {
			err = s.resolve(r)
		}
		if err == nil {
			serve(w, r)
			return
		}
		if r.Body != http.NoBody {
			// So that the refusal does not wait for the rest of what is sent.
			if err := duplex.Prepare(w); err != nil {
				s.fail(w, r, err)
				return
			}
		}
		s.fail(w, r, err)
	})
}

// admit returns an error unless p may ask.
func (n need) admit(p auth.Principal) error {
	if n.about == anybody {
		return nil
	}
	if !p.Known() {
		return auth.ErrUnknown
	}
	if err := p.Need(n.scope); err != nil {
		return err
	}
	switch {
	case n.about == makes && p.Sandbox != "":
		return fault.New(fault.Denied, "key %s is for one sandbox and makes no others", p.Key)
	case n.about == hosts && !p.Owner():
		return fault.New(fault.Denied, "this is about the whole host, and key %s is of team %s", p.Key, p.Team).
			Hint("use a key of team %s", auth.DefaultTeam)
	}
	return nil
}

// withClient is an id to which a client of the first days has joined another.
var withClient = regexp.MustCompile(`^(i[a-z0-9]{20})-[a-z0-9]+$`)

func withoutClient(ref string) string {
	if m := withClient.FindStringSubmatch(ref); m != nil {
		return m[1]
	}
	return ref
}

// resolve puts the id of the sandbox that a path names in the place of its ref.
func (s *Server) resolve(r *http.Request) error {
	ref, err := parseRef("sandbox", withoutClient(r.PathValue("ref")))
	if err != nil {
		return err
	}
	id, err := s.Sandboxes.Resolve(r.Context(), ref)
	if err == nil {
		r.SetPathValue("ref", id)
	}
	return err
}
