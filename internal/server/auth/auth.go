// Package auth says who is asking, and what they may do.
//
// Whoever takes a request in puts a Principal into its context, and whoever
// does something for it looks there: From of a context that nobody has put one
// into is a principal that may do nothing. So what forgets to ask is refused,
// never allowed.
//
// A principal belongs to a team and sees what is that team's; anything else is
// not there for it. Only the operator, who comes by the unix socket, sees all
// teams. Programs come with keys (keys.go), which are known here by their hash.
//
// auth must not know HTTP, sandboxes or the database. Principals are values;
// Keys is safe for concurrent use.
package auth

import (
	"context"
	"fmt"
	"regexp"

	"bulkhead/internal/fault"
)

// Scope is how much somebody may do; each includes those before it.
type Scope int

// The scopes. The zero value is for those whom nobody knows.
const (
	None Scope = iota
	// Read looks: lists, timelines, events, policies, files of no sandbox.
	Read
	// Operate works with sandboxes: makes, uses, changes and removes them.
	Operate
	// Admin decides what sandboxes may do, and about keys and templates.
	Admin
)

// String returns the scope's name.
func (s Scope) String() string {
	switch s {
	case Read:
		return "read"
	case Operate:
		return "operate"
	case Admin:
		return "admin"
	}
	return "none"
}

// ParseScope reads what String wrote; "none" is no scope that a key can have.
func ParseScope(s string) (Scope, error) {
	for _, scope := range []Scope{Read, Operate, Admin} {
		if s == scope.String() {
			return scope, nil
		}
	}
	return None, fault.New(fault.Invalid, "%.40q is no scope", s).Hint("there are read, operate and admin")
}

const (
	// DefaultTeam is the team of the host's owner: what says no team is its, and
	// what belongs to the whole host, such as templates, is its to change.
	DefaultTeam = "default"
	// AllTeams is the team of the operator, who sees everybody's.
	AllTeams = "*"
)

// teamForm keeps teams fit for names of snapshots and for terminals.
var teamForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// CheckTeam returns an error unless a team may be called this.
func CheckTeam(team string) error {
	if teamForm.MatchString(team) {
		return nil
	}
	return fault.New(fault.Invalid, "%.40q is no name of a team", team).
		Hint("use 1 to 32 of a-z, 0-9 and -, not beginning or ending with -")
}

// Principal is who is asking.
type Principal struct {
	// Team is whose things it sees; AllTeams for everybody's.
	Team string
	// Scope is how much it may do.
	Scope Scope
	// Sandbox is the id of the only sandbox that there is for it; "" for all of
	// its team. It makes none.
	Sandbox string
	// Key is the name of the key that it came with; "" for the operator.
	Key string
}

// Operator is root on this host.
func Operator() Principal { return Principal{Team: AllTeams, Scope: Admin} }

// IsOperator reports whether p is root on this host, from whom nothing is kept.
func (p Principal) IsOperator() bool { return p.Team == AllTeams && p.Scope == Admin }

// Known reports whether anybody is asking whom we know.
func (p Principal) Known() bool { return p.Scope > None }

// Home is the team that what p makes belongs to.
func (p Principal) Home() string {
	if p.Team == AllTeams {
		return DefaultTeam
	}
	return p.Team
}

// Sees reports whether there is, for p, a sandbox of this team and id.
func (p Principal) Sees(team, id string) bool {
	return p.Known() && (p.Team == AllTeams || p.Team == team) && (p.Sandbox == "" || p.Sandbox == id)
}

// Owner reports whether what belongs to the whole host is p's to decide about, as
// far as its scope goes.
func (p Principal) Owner() bool {
	return p.Known() && p.Sandbox == "" && (p.Team == AllTeams || p.Team == DefaultTeam)
}

// Need returns a fault.Denied error unless p may do what needs a scope.
func (p Principal) Need(scope Scope) error {
	if p.Scope >= scope {
		return nil
	}
	return fault.New(fault.Denied, "this needs the scope %s, key %s has %s", scope, p.Key, p.Scope).
		Hint("use a key that has it: bulkhead key create NAME --scope %s", scope)
}

// Named tells who p is, for logs and events.
func (p Principal) Named() string {
	switch {
	case p.IsOperator():
		return "operator"
	case p.Key != "":
		return fmt.Sprintf("key %s of %s", p.Key, p.Team)
	}
	return "nobody"
}

type contextKey struct{}

// With returns a context in which p is asking.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// From returns who is asking; one who may do nothing if that was not said.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(contextKey{}).(Principal)
	return p
}
