package netrules_test

import (
	"net/netip"
	"strings"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/daemon/netrules"
	"bulkhead/internal/egress/policy"
	"bulkhead/internal/fault"
)

func to(s string) policy.Destination {
	if a, err := netip.ParseAddr(s); err == nil {
		return policy.Destination{Addr: a, Port: 443}
	}
	return policy.Destination{Name: s, Port: 443}
}

func TestPolicy(t *testing.T) {
	no := false
	for name, tt := range map[string]struct {
		network      *client.Network
		internet     *bool
		allow, block []string
	}{
		"nothing said is everything public": {nil, nil, []string{"a.example", "1.1.1.1"}, []string{"10.0.0.1", "127.0.0.1", "169.254.169.254"}},
		"no Internet":                       {nil, &no, nil, []string{"a.example", "1.1.1.1"}},
		"no Internet, but what is allowed": {
			&client.Network{AllowOut: []string{"A.Example", "*.b.example", "1.1.1.1"}}, &no,
			[]string{"a.example", "x.y.b.example", "1.1.1.1"}, []string{"b.example", "8.8.8.8", "c.example"},
		},
		"a range denied, and an address in it allowed": {
			&client.Network{AllowOut: []string{"8.8.8.8"}, DenyOut: []string{"8.8.0.0/16", "9.9.9.9"}}, nil,
			[]string{"8.8.8.8", "1.1.1.1", "a.example"}, []string{"8.8.4.4", "9.9.9.9"},
		},
		"private addresses stay closed": {
			&client.Network{AllowOut: []string{"10.0.0.0/8", "0.0.0.0/0"}, DenyOut: []string{"0.0.0.0/0"}}, nil,
			[]string{"1.1.1.1", "a.example"}, []string{"10.1.2.3", "192.168.1.1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := netrules.Policy(tt.network, tt.internet)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range tt.allow {
				if v := p.Decide(to(d)); v.Action != policy.Allow {
					t.Errorf("%s: %s", d, v.Rule)
				}
			}
			for _, d := range tt.block {
				if v := p.Decide(to(d)); v.Action == policy.Allow {
					t.Errorf("%s is allowed: %s", d, v.Rule)
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		network client.Network
		kind    fault.Kind
		says    string
	}{
		{client.Network{AllowOut: []string{"a.example"}}, fault.Invalid, "unless denyOut has 0.0.0.0/0"},
		{client.Network{DenyOut: []string{"a.example"}}, fault.Invalid, "not an address"},
		{client.Network{DenyOut: []string{"0.0.0.0"}}, fault.Invalid, "not an address"},
		{client.Network{AllowOut: []string{"a b"}, DenyOut: []string{"0.0.0.0/0"}}, fault.Invalid, "network: "},
		{client.Network{AllowOut: []string{"*"}, DenyOut: []string{"0.0.0.0/0"}}, fault.Unsupported, "every name"},
	} {
		_, err := netrules.Policy(&tt.network, nil)
		if !fault.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v", tt.network, err)
		}
	}
}

func TestRestricts(t *testing.T) {
	yes, no := true, false
	if netrules.Restricts(nil, nil) || netrules.Restricts(&client.Network{}, &yes) {
		t.Error("who says nothing, or that there is an Internet, restricts")
	}
	if !netrules.Restricts(nil, &no) || !netrules.Restricts(&client.Network{DenyOut: []string{"1.1.1.1"}}, nil) {
		t.Error("who forbids something does not restrict")
	}
}
