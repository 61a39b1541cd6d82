package egress

import (
	"context"

	"bulkhead/internal/egress/policy"
	"bulkhead/internal/egress/proxy"
)

// Ask has a sandbox's operator asked about a destination to which there is no
// connection yet, and waits for the answer like one. What is allowed is not
// asked. An approval is for whoever answers to make last.
func (p *Perimeter) Ask(ctx context.Context, id string, to policy.Destination) (allow bool, words string, err error) {
	g, err := p.gate(id)
	if err != nil {
		return false, "", err
	}
	if v := g.policy.Load().Decide(to); v.Action == policy.Allow {
		return true, v.Rule, nil
	}
	destination := proxy.Destination(to).String()
	allow, words = g.desk.ask(ctx, destination, func() {
		g.event("egress.asked", map[string]string{"destination": destination, "rule": "somebody asks for it"})
	})
	return allow, words, nil
}
