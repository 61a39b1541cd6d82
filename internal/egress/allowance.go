package egress

import (
	"slices"
	"sync"

	"bulkhead/internal/egress/budget"
	"bulkhead/internal/egress/policy"
	"bulkhead/internal/egress/proxy"
)

// allowance is what one connection may move. It implements proxy.Allowance.
type allowance struct {
	g     *gate
	to    proxy.Destination
	leave func()

	mu sync.Mutex
	// scopes are the limits that it counts for by the policy under.
	under  *policy.Policy // guarded by mu
	scopes []budget.Scope // guarded by mu
}

// admit counts a connection that is allowed, unless a limit says no.
func (g *gate) admit(to proxy.Destination) (proxy.Allowance, error) {
	a := &allowance{g: g, to: to}
	var err error
	if a.leave, err = g.budgets.Admit(a.limits()); err != nil {
		return nil, err
	}
	return a, nil
}

// limits returns what it counts for. Every piece of every connection asks, so a
// policy decides once.
func (a *allowance) limits() []budget.Scope {
	p := a.g.policy.Load()
	a.mu.Lock()
	defer a.mu.Unlock()
	if p != a.under {
		v := p.Decide(policy.Destination(a.to))
		a.under, a.scopes = p, withLimits(withLimits(nil, "", p.Limits), v.Budget, v.Limits)
	}
	return a.scopes
}

// withLimits adds a scope if it has limits.
func withLimits(all []budget.Scope, name string, l *policy.Limits) []budget.Scope {
	if l == nil {
		return all
	}
	return append(all, budget.Scope{Name: name, Limits: l})
}

// Metered implements proxy.Allowance.
func (a *allowance) Metered() bool {
	return slices.ContainsFunc(a.limits(), func(s budget.Scope) bool { return s.Limits.Per > 0 })
}

// Spend implements proxy.Allowance.
func (a *allowance) Spend(up, down int64) error {
	if err := a.g.budgets.Spend(a.limits(), up, down); err != nil {
		return err
	}
	a.g.ledger.Moved(a.to.String(), up, down)
	return nil
}

// Leave implements proxy.Allowance.
func (a *allowance) Leave() { a.leave() }
