package front

import (
	"context"
	"fmt"
	"time"

	"bulkhead/client"
	"bulkhead/internal/egress"
	"bulkhead/internal/egress/policy"
	"bulkhead/internal/fault"
	"bulkhead/internal/vmm/qemu"
)

// BlastRadius implements server.Egress: everything that the agent in a sandbox
// can reach, from the policy in force, the kernel's view of the VMM, and what
// machines are made of.
func (b borders) BlastRadius(ctx context.Context, ref string) (client.BlastRadius, error) {
	s, err := sandboxes(b).Get(ctx, ref)
	if err != nil {
		return client.BlastRadius{}, err
	}
	p, err := b.Border.Policy(s.ID)
	if err != nil {
		return client.BlastRadius{}, err
	}
	e, err := b.Egress(ctx, s.ID)
	if err != nil {
		return client.BlastRadius{}, err
	}
	r := client.BlastRadius{
		SandboxID: s.ID, Name: s.Name, State: s.State, Used: e.Used, Budgets: e.Budgets,
		Secrets: []string{}, Neighbours: []string{}, Holes: []string{},
		Devices: qemu.Devices(), Files: map[string]string{},
	}
	for _, rule := range p.All() {
		r.Network = append(r.Network, rule.String())
		for _, secret := range rule.Secrets {
			r.Secrets = append(r.Secrets, b.usable(rule.Name, secret))
		}
	}
	for _, what := range policy.Asks() {
		if p.MayAsk(what) {
			r.Network = append(r.Network, "its own "+what+" at http://"+egress.InsideName)
		}
	}
	r.Network = append(r.Network, "all else: "+string(p.Default))
	if s.VMM == nil || s.VMM.Cage == nil {
		return r, nil
	}
	r.Host, r.Files = s.VMM.Cage, s.VMM.Cage.Mounts
	for _, d := range s.VMM.Cage.Differences {
		r.Holes = append(r.Holes, fmt.Sprintf("%s is %s, must be %s", d.What, d.Got, d.Want))
	}
	return r, nil
}

// usable says where a secret can be used, and whether it can.
func (b borders) usable(name string, s policy.Secret) string {
	line := fmt.Sprintf("%s at https://%s", s, name)
	if !b.Vault.Has(s.Name) {
		line += ", but it is not set"
	}
	return line
}

// EgressPending implements server.Egress.
func (b borders) EgressPending(ctx context.Context) ([]client.EgressQuestion, error) {
	var all []client.EgressQuestion
	for _, s := range b.seen(ctx) {
		questions, err := b.Border.Pending(string(s.ID))
		if err != nil {
			return nil, err
		}
		for _, q := range questions {
			all = append(all, client.EgressQuestion{
				SandboxID: string(s.ID), Sandbox: s.Name, Destination: q.Destination, Since: q.Since, Waiting: q.Waiting,
			})
		}
	}
	return all, nil
}

// maxApproval bounds how long an approval counts without being a rule.
const maxApproval = 30 * 24 * time.Hour

// AnswerEgress implements server.Egress.
func (b borders) AnswerEgress(ctx context.Context, ref string, a client.EgressAnswer) error {
	id, err := b.id(ref)
	if err != nil {
		return err
	}
	lasts := time.Duration(a.ForSeconds) * time.Second
	if a.ForSeconds < 0 || a.ForSeconds > int(maxApproval/time.Second) {
		return fault.New(fault.Invalid, "an approval counts for at most %s", maxApproval).Hint("make it a rule: --always")
	}
	if a.Always {
		rule := client.EgressRuleRequest{Destination: a.Destination, Allow: a.Allow}
		if _, err := b.AddEgressRule(ctx, id, rule); err != nil {
			return err
		}
	}
	return b.Border.Answer(ctx, id, a.Destination, egress.Answer{Allow: a.Allow, For: lasts})
}
