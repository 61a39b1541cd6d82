package front

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
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
		Used: []client.EgressUse{}, Budgets: []client.EgressBudget{}, Denied: []client.EgressDenial{},
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
	p, err := b.Border.Policy(id)
	if err != nil {
		return client.Egress{}, err
	}
	target, ports := splitDestination(req.Destination)
	list, err := policy.ParsePorts(ports)
	if err != nil {
		return client.Egress{}, err
	}
	to, err := changed(p, target, list, req)
	if err == nil && req.Secret != nil {
		err = entitled(ctx, to)
	}
	if err != nil {
		return client.Egress{}, err
	}
	if err := b.Border.SetPolicy(ctx, id, to); err != nil {
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

func (b borders) TestEgress(_ context.Context, ref, destination string) (client.EgressVerdict, error) {
	id, err := b.id(ref)
	if err != nil {
		return client.EgressVerdict{}, err
	}
	name, number := splitDestination(destination)
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return client.EgressVerdict{}, fault.New(fault.Invalid, "%q has no port from 1 to 65535", destination).Hint("write NAME:PORT")
	}
	to := policy.Destination{Name: name, Port: uint16(port)}
	if a, err := netip.ParseAddr(name); err == nil {
		to = policy.Destination{Addr: a, Port: uint16(port)}
	}
	v, err := b.Border.Test(id, to)
	return client.EgressVerdict{Destination: destination, Allowed: v.Action == policy.Allow, Rule: v.Rule}, err
}

// splitDestination takes the ports off "name:443", "*.name:80,443" or
// "10.0.0.0/8:5432"; "" if there are none. "fd00::/8" has none.
func splitDestination(s string) (target, ports string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || i == len(s)-1 || strings.Trim(s[i+1:], "0123456789,-") != "" {
		return s, ""
	}
	return s[:i], s[i+1:]
}
