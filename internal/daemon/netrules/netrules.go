// Package netrules makes an egress policy of what SDKs of E2B say about a
// sandbox's network: the policy stays the only thing that decides.
//
// It is pure: no I/O and no state.
package netrules

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/egress/policy"
	"bulkhead/internal/fault"
)

// Restricts reports whether a request says anything about what a sandbox may talk
// to. One that does not leaves it to the host's policy for new sandboxes; so does
// one that says that it may use the Internet, which older SDKs always do.
func Restricts(n *client.Network, internet *bool) bool {
	return internet != nil && !*internet || n != nil && (len(n.AllowOut) > 0 || len(n.DenyOut) > 0)
}

// everywhere is every IPv4 address.
const everywhere = "0.0.0.0/0"

// draft is a policy as a document; JSON is YAML.
type draft struct {
	Version int         `json:"version"`
	Default string      `json:"default"`
	Rules   []draftRule `json:"rules"`
}

type draftRule struct {
	Name    string   `json:"name,omitempty"`
	CIDR    string   `json:"cidr,omitempty"`
	Ports   []string `json:"ports,omitempty"`
	Action  string   `json:"action"`
	Comment string   `json:"comment,omitempty"`
}

// Policy makes a policy of what an SDK asks for. What is allowed comes before
// what is denied; what is private stays closed whatever is asked.
func Policy(n *client.Network, internet *bool) (*policy.Policy, error) {
	if n == nil {
		n = &client.Network{}
	}
	denied := n.DenyOut
	if internet != nil && !*internet {
		denied = []string{everywhere}
	}
	d := draft{Version: 1, Default: "public", Rules: []draftRule{}}
	if slices.Contains(denied, everywhere) && !slices.Contains(n.AllowOut, everywhere) {
		d.Default = "deny"
	}
	for _, to := range n.AllowOut {
		if to == everywhere {
			continue
		}
		rule, err := allowed(to)
		if err != nil {
			return nil, err
		}
		if rule.Name != "" && !slices.Contains(denied, everywhere) {
			return nil, fault.New(fault.Invalid, "allowOut: a name like %q means nothing unless denyOut has %s", to, everywhere)
		}
		d.Rules = append(d.Rules, rule)
	}
	for _, to := range denied {
		r, ok := ranged(to)
		if !ok || r.Addr().IsUnspecified() && r.Bits() != 0 {
			return nil, fault.New(fault.Invalid, "denyOut: %q is not an address or a range of them", clipped(to))
		}
		if r.String() != everywhere {
			d.Rules = append(d.Rules, draftRule{CIDR: r.String(), Action: "deny"})
		}
	}
	doc, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(doc)
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	return p, nil
}

// allowed is the rule for one entry of allowOut.
func allowed(to string) (draftRule, error) {
	if to == "*" {
		return draftRule{}, fault.New(fault.Unsupported, "allowOut: %q for every name is not offered", to).
			Hint("leave out denyOut, or list the names")
	}
	r, ok := ranged(to)
	if !ok {
		return draftRule{Name: strings.ToLower(to), Action: "allow"}, nil
	}
	if why, private := policy.Forbidden(r.Addr()); private {
		return draftRule{CIDR: r.String(), Action: "deny", Comment: "asked for, but " + why + " stays closed"}, nil
	}
	return draftRule{CIDR: r.String(), Ports: []string{"1-65535"}, Action: "allow"}, nil
}

// ranged reads an address or a range of them.
func ranged(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err == nil
}

// clipped is a part of a request that fits into a message.
func clipped(s string) string { return s[:min(len(s), 64)] }
