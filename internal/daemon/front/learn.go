package front

import (
	"context"
	"fmt"
	"net/netip"

	"bulkhead/client"
	"bulkhead/internal/egress/learn"
	"bulkhead/internal/egress/policy"
)

// Learn implements server.Lessons.
func (b borders) Learn(ctx context.Context, ref string, on bool) error {
	id, err := b.id(ref)
	if err != nil {
		return err
	}
	return b.Border.Learn(ctx, id, on)
}

// Learned implements server.Lessons.
func (b borders) Learned(_ context.Context, ref string) (client.EgressLearned, error) {
	id, err := b.id(ref)
	if err != nil {
		return client.EgressLearned{}, err
	}
	p, err := b.Border.Policy(id)
	if err != nil {
		return client.EgressLearned{}, err
	}
	record, err := b.Border.Learned(id)
	if err != nil {
		return client.EgressLearned{}, err
	}
	proposal, err := learn.Propose(p, record.Seen)
	if err != nil {
		return client.EgressLearned{}, fmt.Errorf("propose a policy for %s: %w", ref, err)
	}
	l := client.EgressLearned{
		SandboxID: id, On: record.On, Since: record.Since, Seen: []client.EgressSeen{}, Unrecorded: record.Unrecorded,
		Proposal: string(proposal.Marshal()), Changes: append([]string{}, policy.Diff(p, proposal)...),
	}
	for _, s := range record.Seen {
		l.Seen = append(l.Seen, seen(s))
	}
	return l, nil
}

// seen writes a destination as clients read it.
func seen(s learn.Seen) client.EgressSeen {
	destination := s.Name
	switch {
	case s.Name == "":
		destination = netip.AddrPortFrom(s.Addr, s.Port).String()
	case s.Port > 0:
		destination = fmt.Sprintf("%s:%d", s.Name, s.Port)
	}
	return client.EgressSeen{Destination: destination, Allowed: s.Allowed, Count: s.Count}
}

// Replay implements server.Lessons.
func (b borders) Replay(_ context.Context, ref string, req client.EgressPolicyRequest) ([]client.EgressChange, error) {
	id, err := b.id(ref)
	if err != nil {
		return nil, err
	}
	p, err := requested(req)
	if err != nil {
		return nil, err
	}
	record, err := b.Border.Learned(id)
	if err != nil {
		return nil, err
	}
	var all []client.EgressChange
	for _, c := range learn.Replay(p, record.Seen) {
		all = append(all, client.EgressChange{EgressSeen: seen(c.Seen), Now: string(c.Now), Rule: c.Rule})
	}
	return all, nil
}
