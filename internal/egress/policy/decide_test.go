package policy_test

import (
	"net/netip"
	"testing"

	"bulkhead/internal/egress/policy"

	"github.com/google/go-cmp/cmp"
)

const decisions = `
use: [none]
default: deny
rules:
  - {name: bad.example.com, action: deny}
  - {name: "*.example.com", ports: [443, 8000-8002], action: allow, limits: {rate: 7}}
  - {name: example.org, action: allow}
  - {name: maybe.example, ports: [22], action: ask}
  - {name: maybe.example, ports: [1-1023], action: deny}
  - {name: maybe.example, ports: [1-2000], action: allow}
  - {cidr: 10.9.9.9, action: deny}
  - {cidr: 10.0.0.0/8, ports: [5432], action: allow}
  - {cidr: 0.0.0.0/0, ports: [443], action: allow}
  - {cidr: "::/0", ports: [443], action: ask}
  - {cidr: 8.8.4.4, action: deny}
`

func at(host string, port uint16) policy.Destination {
	if a, err := netip.ParseAddr(host); err == nil {
		return policy.Destination{Addr: a, Port: port}
	}
	return policy.Destination{Name: host, Port: port}
}

func TestDecide(t *testing.T) {
	p := parse(t, decisions)
	tests := []struct {
		name string
		host string
		port uint16
		want policy.Verdict
	}{
		{"an earlier rule wins", "bad.example.com", 443, policy.Verdict{Action: policy.Deny, Rule: "rule 1: deny bad.example.com all ports", Index: 0}},
		{"a wildcard at any depth", "a.b.example.com", 8002, policy.Verdict{Action: policy.Allow, Rule: "rule 2: allow *.example.com ports 443,8000-8002 limits {rate: 7}", Index: 1, Limits: &policy.Limits{Rate: 7}, Budget: "*.example.com ports 443,8000-8002"}},
		{"in any case, with a dot", "A.EXAMPLE.com.", 443, policy.Verdict{Action: policy.Allow, Rule: "rule 2: allow *.example.com ports 443,8000-8002 limits {rate: 7}", Index: 1, Limits: &policy.Limits{Rate: 7}, Budget: "*.example.com ports 443,8000-8002"}},
		{"a wildcard is not the suffix itself", "example.com", 443, policy.Verdict{Action: policy.Deny, Rule: "default: deny", Index: -1}},
		{"a wildcard ends at a dot", "notexample.com", 443, policy.Verdict{Action: policy.Deny, Rule: "default: deny", Index: -1}},
		{"what follows counts", "a.example.com.evil.example", 443, policy.Verdict{Action: policy.Deny, Rule: "default: deny", Index: -1}},
		{"another port", "a.example.com", 8003, policy.Verdict{Action: policy.Deny, Rule: "default: deny", Index: -1}},
		{"usual port 80", "example.org", 80, policy.Verdict{Action: policy.Allow, Rule: "rule 3: allow example.org ports 80,443", Index: 2}},
		{"no unusual port", "example.org", 8080, policy.Verdict{Action: policy.Deny, Rule: "default: deny", Index: -1}},
		{"a name to ask for", "maybe.example", 22, policy.Verdict{Action: policy.Ask, Rule: "rule 4: ask maybe.example ports 22", Index: 3}},
		{"an address", "10.1.2.3", 5432, policy.Verdict{Action: policy.Allow, Rule: "rule 8: allow 10.0.0.0/8 ports 5432", Index: 7}},
		{"an address in IPv6", "::ffff:10.1.2.3", 5432, policy.Verdict{Action: policy.Allow, Rule: "rule 8: allow 10.0.0.0/8 ports 5432", Index: 7}},
		{"a denied address", "10.9.9.9", 5432, policy.Verdict{Action: policy.Deny, Rule: "rule 7: deny 10.9.9.9/32 all ports", Index: 6}},
		{"a denied address behind NAT64", "64:ff9b::10.9.9.9", 443, policy.Verdict{Action: policy.Deny, Rule: "rule 7: deny 10.9.9.9/32 all ports", Index: 6}},
		{"a public address", "8.8.8.8", 443, policy.Verdict{Action: policy.Allow, Rule: "rule 9: allow 0.0.0.0/0 ports 443", Index: 8}},
		{"a wide range opens no private address", "192.168.1.1", 443, policy.Verdict{Action: policy.Deny, Rule: "default: deny", Index: -1}},
		{"a wide range opens no metadata", "169.254.169.254", 443, policy.Verdict{Action: policy.Deny, Rule: "default: deny", Index: -1}},
		{"a public IPv6 address", "2606:4700::1111", 443, policy.Verdict{Action: policy.Ask, Rule: "rule 10: ask ::/0 ports 443", Index: 9}},
		{"a wide range opens no private IPv6", "fd00::1", 443, policy.Verdict{Action: policy.Deny, Rule: "default: deny", Index: -1}},
		{"a wide range opens no loopback behind NAT64", "64:ff9b::127.0.0.1", 443, policy.Verdict{Action: policy.Deny, Rule: "default: deny", Index: -1}},
		{"an address as a name", "10.1.2.3.", 5432, policy.Verdict{Action: policy.Deny, Rule: `refused: "10.1.2.3." is not a host name but an address`, Index: -1}},
		{"port 0", "example.org", 0, policy.Verdict{Action: policy.Deny, Rule: "refused: 0 is not a port", Index: -1}},
		{"nothing", "", 443, policy.Verdict{Action: policy.Deny, Rule: `default: deny`, Index: -1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, p.Decide(at(tt.host, tt.port))); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	tests := []struct {
		doc, host string
		want      policy.Action
		rule      string
	}{
		{"default: deny", "a.example", policy.Deny, "default: deny"},
		{"default: ask", "a.example", policy.Ask, "default: ask"},
		{"default: ask", "8.8.8.8", policy.Ask, "default: ask"},
		{"default: ask", "127.0.0.1", policy.Deny, "default: ask, but 127.0.0.1 is loopback (RFC 1122)"},
		{"default: public", "a.example", policy.Allow, "default: public"},
		{"default: public", "8.8.8.8", policy.Allow, "default: public"},
		{"default: public", "::ffff:10.0.0.1", policy.Deny, "default: public, but 10.0.0.1 is private (RFC 1918)"},
		{"default: public", "fe80::1%eth0", policy.Deny, "default: public, but fe80::1 is link-local (RFC 4291)"},
		{"rules: []", "a.example", policy.Deny, "default: deny"},
		{"use: [packages]", "a.example", policy.Deny, "default: deny"},
		{"use: [packages, public]", "a.example", policy.Allow, "default: public"},
		{"{use: [public], default: ask}", "a.example", policy.Ask, "default: ask"},
	}
	for _, tt := range tests {
		t.Run(tt.doc+" "+tt.host, func(t *testing.T) {
			v := parse(t, tt.doc).Decide(at(tt.host, 443))
			if v.Action != tt.want || v.Rule != tt.rule || v.Index != -1 {
				t.Errorf("got %+v, want %s by %q", v, tt.want, tt.rule)
			}
		})
	}
	if v := (&policy.Policy{}).Decide(at("a.example", 443)); v.Action != policy.Deny {
		t.Errorf("the zero policy: %+v", v)
	}
}

func TestMayResolve(t *testing.T) {
	p := parse(t, decisions)
	tests := []struct {
		name, host string
		want       policy.Action
		rule       string
	}{
		{"denied on every port", "bad.example.com", policy.Deny, "rule 1: deny bad.example.com all ports"},
		{"allowed on some", "a.example.com", policy.Allow, "rule 2: allow *.example.com ports 443,8000-8002 limits {rate: 7}"},
		{"allowed on ports that no denial reaches", "maybe.example", policy.Allow, "rule 6: allow maybe.example ports 1-2000"},
		{"not in any rule", "other.example", policy.Deny, "default: deny"},
		{"no name", "10.1.2.3", policy.Deny, `refused: "10.1.2.3" is not a host name but an address`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if v := p.MayResolve(tt.host); v.Action != tt.want || v.Rule != tt.rule {
				t.Errorf("got %+v, want %s by %q", v, tt.want, tt.rule)
			}
		})
	}
	t.Run("to be asked for on some", func(t *testing.T) {
		p := parse(t, "rules: [{name: a.example, ports: [22], action: ask}, {name: a.example, ports: 1-65535, action: deny}]")
		if v := p.MayResolve("a.example"); v.Action != policy.Ask {
			t.Errorf("got %+v", v)
		}
	})
	t.Run("denied where an allowance is hidden", func(t *testing.T) {
		p := parse(t, "rules: [{name: a.example, ports: 1-65535, action: deny}, {name: a.example, action: allow}]")
		if v := p.MayResolve("a.example"); v.Action != policy.Deny {
			t.Errorf("got %+v", v)
		}
	})
	t.Run("public but for the port that is denied", func(t *testing.T) {
		p := parse(t, "{default: public, rules: [{name: a.example, ports: [1-443, 445-65535], action: deny}]}")
		if v := p.MayResolve("a.example"); v.Action != policy.Allow {
			t.Errorf("got %+v", v)
		}
	})
}

func TestAddressesAfterResolution(t *testing.T) {
	p := parse(t, `{default: public, rules: [
		{cidr: 10.1.0.0/16, ports: [443], action: allow}, {cidr: 10.0.0.0/8, action: deny}, {cidr: 9.9.9.0/24, action: deny},
		{cidr: 192.168.0.0/16, ports: [443], action: ask}, {cidr: 169.254.0.0/16, ports: [80], action: allow}]}`)
	tests := []struct {
		name, addr string
		port       uint16
		allows     bool
		denies     string
	}{
		{"opened", "10.1.2.3", 443, true, ""},
		{"opened in IPv6", "::ffff:10.1.2.3", 443, true, ""},
		{"closed on another port", "10.1.2.3", 80, false, "rule 2: deny 10.0.0.0/8 all ports"},
		{"closed though public", "9.9.9.9", 443, false, "rule 3: deny 9.9.9.0/24 all ports"},
		{"closed by way of 6to4", "2002:909:909::1", 443, false, "rule 3: deny 9.9.9.0/24 all ports"},
		{"in no rule", "8.8.8.8", 443, false, ""},
		{"to be asked for is not opened", "192.168.1.1", 443, false, ""},
		{"link-local opened", "169.254.1.1", 80, true, ""},
		{"metadata is not opened along with it", "169.254.169.254", 80, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := netip.MustParseAddr(tt.addr)
			if got := p.AllowsAddr(a, tt.port); got != tt.allows {
				t.Errorf("allows is %t", got)
			}
			if rule, denied := p.DeniesAddr(a, tt.port); denied != (tt.denies != "") || denied && rule != tt.denies {
				t.Errorf("denies is %t by %q", denied, rule)
			}
		})
	}
	if _, denied := p.DeniesAddr(netip.Addr{}, 443); denied || p.AllowsAddr(netip.Addr{}, 443) {
		t.Error("a rule matches no address at all")
	}
}

func TestForbidden(t *testing.T) {
	tests := []struct{ addr, why string }{
		{"0.0.0.0", "this network (RFC 791)"},
		{"10.255.255.255", "private (RFC 1918)"},
		{"100.64.0.1", "shared by a carrier's customers (RFC 6598)"},
		{"100.127.255.255", "shared by a carrier's customers (RFC 6598)"},
		{"100.100.100.200", "a metadata service (Alibaba)"},
		{"127.255.255.255", "loopback (RFC 1122)"},
		{"168.63.129.16", "a metadata service (Azure)"},
		{"169.254.169.254", "a metadata service (link-local, RFC 3927)"},
		{"169.254.0.1", "link-local (RFC 3927)"},
		{"172.16.0.0", "private (RFC 1918)"},
		{"172.31.255.255", "private (RFC 1918)"},
		{"192.0.0.1", "for protocols (RFC 6890)"},
		{"192.0.0.192", "a metadata service (Oracle)"},
		{"192.0.2.1", "for documentation (RFC 5737)"},
		{"192.31.196.1", "for AS112 (RFC 7535)"},
		{"192.52.193.1", "for multicast tunnels (RFC 7450)"},
		{"192.88.99.1", "a deprecated 6to4 relay (RFC 7526)"},
		{"192.168.0.1", "private (RFC 1918)"},
		{"192.175.48.1", "for AS112 (RFC 7534)"},
		{"198.18.0.1", "for benchmarks (RFC 2544)"},
		{"198.19.255.255", "for benchmarks (RFC 2544)"},
		{"198.51.100.1", "for documentation (RFC 5737)"},
		{"203.0.113.1", "for documentation (RFC 5737)"},
		{"224.0.0.1", "multicast (RFC 5771)"},
		{"239.255.255.250", "multicast (RFC 5771)"},
		{"240.0.0.1", "reserved (RFC 1112)"},
		{"255.255.255.255", "broadcast (RFC 919)"},
		{"::", "unspecified (RFC 4291)"},
		{"::1", "loopback (RFC 4291)"},
		{"::1%lo", "loopback (RFC 4291)"},
		{"::8.8.8.8", "deprecated IPv4-compatible (RFC 4291)"},
		{"::ffff:127.0.0.1", "loopback (RFC 1122)"},
		{"::ffff:0:8.8.8.8", "not assigned to any network (RFC 4291)"},
		{"64:ff9b::a9fe:a9fe", "a way to 169.254.169.254, a metadata service (link-local, RFC 3927)"},
		{"64:ff9b:1::808:808", "local NAT64 (RFC 8215)"},
		{"100::1", "discarded (RFC 6666)"},
		{"100:0:0:1::1", "a dummy (RFC 9780)"},
		{"2001:0:808:808::f5ff:fffe", "a way to 10.0.0.1, private (RFC 1918)"},
		{"2001:0:a00:1::f7f7:f7f7", "a way to 10.0.0.1, private (RFC 1918)"},
		{"2001:2::1", "for protocols (RFC 2928)"},
		{"2001:20::1", "for protocols (RFC 2928)"},
		{"2001:1ff:ffff::1", "for protocols (RFC 2928)"},
		{"2001:db8::1", "for documentation (RFC 3849)"},
		{"2002:7f00:1::", "a way to 127.0.0.1, loopback (RFC 1122)"},
		{"2620:4f:8000::1", "for AS112 (RFC 7534)"},
		{"3fff:fff::1", "for documentation (RFC 9637)"},
		{"4000::1", "not assigned to any network (RFC 4291)"},
		{"5f00::1", "segment routing (RFC 9602)"},
		{"fc00::1", "private (RFC 4193)"},
		{"fd00:ec2::254", "a metadata service (Amazon)"},
		{"fd20:ce::254", "a metadata service (Google)"},
		{"fe80::1%eth0", "link-local (RFC 4291)"},
		{"fec0::1", "deprecated site-local (RFC 3879)"},
		{"ff02::1", "multicast (RFC 4291)"},

		{"1.1.1.1", ""},
		{"9.255.255.255", ""},
		{"11.0.0.0", ""},
		{"100.63.255.255", ""},
		{"100.128.0.0", ""},
		{"126.255.255.255", ""},
		{"128.0.0.0", ""},
		{"172.15.255.255", ""},
		{"172.32.0.0", ""},
		{"198.17.255.255", ""},
		{"198.20.0.0", ""},
		{"223.255.255.255", ""},
		{"::ffff:8.8.8.8", ""},
		{"64:ff9b::808:808", ""},
		{"2001:0:808:808::f7f7:f7f7", ""},
		{"2001:200::1", ""},
		{"2002:808:808::1", ""},
		{"2606:4700::1111", ""},
	}
	for _, tt := range tests {
		t.Run(tt.addr, func(t *testing.T) {
			why, forbidden := policy.Forbidden(netip.MustParseAddr(tt.addr))
			if why != tt.why || forbidden != (tt.why != "") {
				t.Errorf("got %q, %t, want %q", why, forbidden, tt.why)
			}
		})
	}
	if _, forbidden := policy.Forbidden(netip.Addr{}); !forbidden {
		t.Error("no address is not forbidden")
	}
}
