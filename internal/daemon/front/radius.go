package front

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"bulkhead/client"
	"bulkhead/internal/egress"
	"bulkhead/internal/egress/policy"
	"bulkhead/internal/fault"
	"bulkhead/internal/vmm/qemu"
)

// BlastRadius implements server.Egress: everything that the agent in a sandbox
// can reach, from the policy in force and the kernel's view of the VMM and of the
// machine's network.
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
		MaxConnections: egress.MaxConnections,
		Secrets:        []string{}, Neighbours: []string{}, Holes: []string{},
		Devices: []string{}, Files: map[string]string{}, Link: map[string][]string{},
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
	for _, a := range e.Approved { // rules come first: what they deny no approval opens
		r.Network = append(r.Network, fmt.Sprintf("%s, approved until %s, unless a rule denies it", a.Destination, a.Until.UTC().Format(time.DateTime)))
	}
	r.Network = append(r.Network, "all else: "+string(p.Default))
	err = b.loaded(&r, s)
	return r, err
}

// loaded adds what the kernel says of a machine that runs, and where that is not
// as it must be.
func (b borders) loaded(r *client.BlastRadius, s client.Sandbox) error {
	if s.VMM == nil || s.VMM.Cage == nil {
		return nil
	}
	argv, err := commandLine(s.VMM.PID)
	if err != nil {
		return err
	}
	r.Devices = append(r.Devices, qemu.Devices(argv)...)
	r.Host, r.Files = s.VMM.Cage, s.VMM.Cage.Mounts
	for _, d := range s.VMM.Cage.Differences {
		r.Holes = append(r.Holes, fmt.Sprintf("%s is %s, must be %s", d.What, d.Got, d.Want))
	}
	link, err := b.Border.Survey(s.ID)
	if err != nil || link == nil {
		return err
	}
	r.Link["devices"], r.Link["addresses"], r.Link["routes"] = link.Devices, link.Addresses, link.Routes
	r.Link["sockets"], r.Link["rules"] = link.Sockets, link.Rules
	r.Holes = append(r.Holes, link.Differences...)
	return nil
}

// commandLine is that of a process; none if it has just ended. It is not the
// guest's to change, but whoever took over a VMM may: it is bounded.
func commandLine(pid int) ([]string, error) {
	const most = 64 << 10
	f, err := os.Open(fmt.Sprintf("/proc/%d/cmdline", pid))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most))
	if errors.Is(err, syscall.ESRCH) {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), err
}

// usable says where a secret can be used, and whether it can.
func (b borders) usable(name string, s policy.Secret) string {
	line := fmt.Sprintf("%s at https://%s", s, name)
	if !b.Vault.Has(s.Name) {
		line += ", but it is not set"
	}
	return line
}

// EgressPending implements server.Questions.
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

// AskEgress implements server.Questions.
func (b borders) AskEgress(ctx context.Context, ref, destination string) (client.EgressVerdict, error) {
	id, to, err := b.aim(ref, destination)
	if err != nil {
		return client.EgressVerdict{}, err
	}
	allow, words, err := b.Border.Ask(ctx, id, to)
	return client.EgressVerdict{Destination: destination, Allowed: allow, Rule: words}, err
}

// AnswerEgress implements server.Questions.
func (b borders) AnswerEgress(ctx context.Context, ref string, a client.EgressAnswer) error {
	id, err := b.id(ref)
	if err != nil {
		return err
	}
	lasts := time.Duration(a.ForSeconds) * time.Second
	if a.ForSeconds < 0 || a.ForSeconds > int(maxApproval/time.Second) {
		return fault.New(fault.Invalid, "an approval counts for at most %s", maxApproval).Hint("make it a rule: --always")
	}
	if a.Allow && !a.Always {
		if err := b.answerable(ref, a.Destination); err != nil {
			return err
		}
	}
	if a.Always {
		rule := client.EgressRuleRequest{Destination: a.Destination, Allow: a.Allow}
		if _, err := b.AddEgressRule(ctx, id, rule); err != nil {
			return err
		}
	}
	err = b.Border.Answer(ctx, id, a.Destination, egress.Answer{Allow: a.Allow, For: lasts})
	if a.Always && fault.Is(err, fault.NotFound) {
		return nil // the rule is there, and has answered whoever waited
	}
	return err
}

// answerable returns an error for a destination that the policy refuses whatever
// is answered: it was asked for as such, not by a connection.
func (b borders) answerable(ref, destination string) error {
	id, to, err := b.aim(ref, destination)
	if err != nil {
		return err
	}
	v, err := b.Border.Test(id, to)
	if err == nil && v.Action == policy.Deny {
		err = fault.New(fault.Invalid, "the policy refuses %s whatever is answered: %s", destination, v.Rule).
			Hint("change it: bulkhead egress approve %s %s --always", ref, destination)
	}
	return err
}
