package daemon

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/daemon/store"
	"bulkhead/internal/egress"
	"bulkhead/internal/egress/binding"
	"bulkhead/internal/egress/policy"
	"bulkhead/internal/fault"
	"bulkhead/internal/guest"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/secret"
	"bulkhead/proto/machine"
)

// perimeter makes the perimeter of all sandboxes. guests leads to those that
// run.
func (d *Daemon) perimeter(log store.Events, vault *secret.Vault, guests func() *heart) (*egress.Perimeter, error) {
	// By reference, so that sandboxes have what a later release adds.
	preset, err := policy.Parse([]byte("version: 1\nuse: [" + d.Config.Egress + "]\n"))
	if err != nil {
		return nil, fmt.Errorf("egress of new sandboxes: %w", err)
	}
	out := d.Out
	if out == nil {
		out = egress.Host{}
	}
	return egress.New(egress.Config{
		Dir: filepath.Join(d.Config.StateDir, "egress"), LinkPath: d.linkPath, Default: preset,
		Out: out, Event: log.Append, Clock: d.Clock, Log: d.Log,
		Tell: func(ctx context.Context, id string, denials []byte) error {
			return putDenials(ctx, guests(), id, denials)
		},
		Secret: vault.Get, Roots: d.Roots,
		Inside: func(ctx context.Context, id string, may func(string) bool, conn net.Conn) {
			guests().inside.Serve(ctx, id, may, conn)
		},
		Entrust: func(ctx context.Context, id string, t binding.Trust) error {
			transport, err := guests().Transport(ctx, id)
			if err != nil {
				return err
			}
			return guest.Entrust(ctx, transport, trustOf(t))
		},
	}), nil
}

// putDenials writes the list of its denials into a guest, which runs.
func putDenials(ctx context.Context, h *heart, id string, denials []byte) error {
	const file = "/run/bulkhead/denied.json"
	transport, err := h.Transport(ctx, id)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://guest/files?"+url.Values{"path": {file}}.Encode(), bytes.NewReader(denials))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.SetBasicAuth("root", "")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("write %s: %s", file, resp.Status)
	}
	return nil
}

// linkPath is where the network of a machine is pinned.
func (d *Daemon) linkPath(id string) string { return filepath.Join(d.runDir(), id, "netns") }

// networks is the heart's Network.
type networks struct{ *egress.Perimeter }

func (n networks) Open(ctx context.Context, id string) (live.Link, error) {
	return orNilLink(n.Perimeter.Open(ctx, id))
}

func (n networks) Attach(ctx context.Context, id string) (live.Link, error) {
	return orNilLink(n.Perimeter.Attach(ctx, id))
}

// orNilLink keeps a nil *egress.Link from becoming a live.Link that is not nil.
func orNilLink(l *egress.Link, err error) (live.Link, error) {
	if err != nil {
		return nil, err
	}
	return trustedLink{l}, nil
}

// trustedLink speaks of trust in the words of the guest channel.
type trustedLink struct{ *egress.Link }

func (l trustedLink) Trust() *machine.Trust { return trustOf(l.Link.Trust()) }

// trustOf is nil for a guest that has never had anything: it would only cost
// its agent time.
func trustOf(t binding.Trust) *machine.Trust {
	if t.Root == nil && t.Env == nil {
		return nil
	}
	return &machine.Trust{Root: t.Root, Link: t.Link, Env: t.Env}
}

// borders is the server's Egress.
type borders struct{ *api }

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
	p, err := b.border.Policy(id)
	if err != nil {
		return client.Egress{}, err
	}
	s, err := b.border.State(id)
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
	if err != nil {
		return client.Egress{}, err
	}
	if err := b.border.SetPolicy(ctx, id, p); err != nil {
		return client.Egress{}, err
	}
	return b.Egress(ctx, id)
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
	p, err := b.border.Policy(id)
	if err != nil {
		return client.Egress{}, err
	}
	target, ports := splitDestination(req.Destination)
	list, err := policy.ParsePorts(ports)
	if err != nil {
		return client.Egress{}, err
	}
	to, err := changed(p, target, list, req)
	if err != nil {
		return client.Egress{}, err
	}
	if err := b.border.SetPolicy(ctx, id, to); err != nil {
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
	v, err := b.border.Test(id, to)
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
