package front

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/egress/policy"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
)

// borders is the server's Egress.
type borders struct{ *Front }

// id finds a sandbox.
func (b borders) id(ref string) (string, error) {
	s, err := b.Manager.Get(ref)
	return string(s.ID), err
}

func (b borders) Egress(_ context.Context, ref string) (client.Egress, error) {
	id, err := b.id(ref)
	if err != nil {
		return client.Egress{}, err
	}
	p, err := b.Border.Policy(id)
	if err != nil {
		return client.Egress{}, err
	}
	s, err := b.Border.State(id)
	if err != nil {
		return client.Egress{}, err
	}
	e := client.Egress{
		SandboxID: id, Policy: string(p.Marshal()), Dropped: s.Dropped,
		Used: []client.EgressUse{}, Budgets: []client.EgressBudget{}, Approved: []client.EgressApproval{}, Denied: []client.EgressDenial{},
	}
	for _, a := range s.Approved {
		e.Approved = append(e.Approved, client.EgressApproval(a))
	}
	for _, u := range s.Uses {
		e.Used = append(e.Used, client.EgressUse{
			Destination: u.Destination, Connections: u.Connections, Open: u.Open, UpBytes: u.Up, DownBytes: u.Down,
		})
	}
	for _, d := range s.Denials {
		e.Denied = append(e.Denied, client.EgressDenial(d))
	}
	for _, l := range s.Budgets {
		e.Budgets = append(e.Budgets, client.EgressBudget{
			For: l.Rule, Limits: l.Limits.String(), UpBytes: l.Up, UpLimit: l.Limits.UploadBytes,
			DownBytes: l.Down, DownLimit: l.Limits.DownloadBytes, Since: l.Since, Until: l.Since.Add(l.Limits.Per),
			Open: l.Open, OpenLimit: l.Limits.Connections,
		})
	}
	return e, nil
}

func (b borders) SetEgress(ctx context.Context, ref string, req client.EgressPolicyRequest) (client.Egress, error) {
	id, err := b.id(ref)
	if err != nil {
		return client.Egress{}, err
	}
	p, err := requested(req)
	if err == nil {
		err = entitled(ctx, p)
	}
	if err != nil {
		return client.Egress{}, err
	}
	if err := b.Border.SetPolicy(ctx, id, p); err != nil {
		return client.Egress{}, err
	}
	return b.Egress(ctx, id)
}

// entitled returns an error if who is asking wants a policy with secrets and does
// not own the host: a secret of the host would go to whatever host a policy says.
func entitled(ctx context.Context, p *policy.Policy) error {
	if auth.From(ctx).Owner() || p.Equal(p.WithoutSecrets()) {
		return nil
	}
	return fault.New(fault.Denied, "secrets are the host's, and only team %s may let sandboxes use them", auth.DefaultTeam)
}

func requested(req client.EgressPolicyRequest) (*policy.Policy, error) {
	doc := req.Policy
	if req.Preset != "" {
		if !slices.Contains(policy.Presets(), req.Preset) {
			return nil, fault.New(fault.Invalid, "no egress preset is called %q", req.Preset).
				Hint("there are %s", strings.Join(policy.Presets(), ", "))
		}
		doc = "version: 1\nuse: [" + req.Preset + "]\n"
	}
	p, err := policy.Parse([]byte(doc))
	if err != nil {
		return nil, fmt.Errorf("egress policy: %w", err)
	}
	return p, nil
}

func (b borders) AddEgressRule(ctx context.Context, ref string, req client.EgressRuleRequest) (client.Egress, error) {
	id, err := b.id(ref)
	if err != nil {
		return client.Egress{}, err
	}
	target, ports := policy.SplitDestination(req.Destination)
	list, err := policy.ParsePorts(ports)
	if err != nil {
		return client.Egress{}, err
	}
	err = b.Border.ChangePolicy(ctx, id, func(p *policy.Policy) (*policy.Policy, error) {
		to, err := changed(p, target, list, req)
		if err == nil && req.Secret != nil {
			err = entitled(ctx, to)
		}
		return to, err
	})
	if err != nil {
		return client.Egress{}, err
	}
	return b.Egress(ctx, id)
}

// changed returns p with the rule that is asked for.
func changed(p *policy.Policy, target string, ports []policy.PortRange, req client.EgressRuleRequest) (*policy.Policy, error) {
	switch {
	case req.Secret != nil && !req.Allow:
		return nil, fault.New(fault.Invalid, "what is denied has no use for a secret")
	case req.Secret != nil:
		return p.AllowWith(target, ports, policy.Secret(*req.Secret))
	case req.Allow:
		return p.Allow(target, ports, "")
	}
	return p.Deny(target, ports, "")
}

// aim finds a sandbox and reads a destination.
func (b borders) aim(ref, destination string) (id string, to policy.Destination, err error) {
	if id, err = b.id(ref); err == nil {
		to, err = policy.ParseDestination(destination)
	}
	return id, to, err
}

func (b borders) TestEgress(_ context.Context, ref string, req client.EgressTestRequest) (client.EgressVerdict, error) {
	id, to, err := b.aim(ref, req.Destination)
	if err != nil {
		return client.EgressVerdict{}, err
	}
	var v policy.Verdict
	if req.Policy == "" && req.Preset == "" {
		v, err = b.Border.Test(id, to)
	} else if p, badly := requested(req.EgressPolicyRequest); badly == nil {
		v = p.Decide(to)
	} else {
		err = badly
	}
	return client.EgressVerdict{
		Destination: req.Destination, Allowed: v.Action == policy.Allow, Asks: v.Action == policy.Ask, Rule: v.Rule,
	}, err
}
