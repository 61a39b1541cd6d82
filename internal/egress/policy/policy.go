// Package policy decides what a sandbox may talk to: the policy document, the
// presets that come with the product, and the answer to "may it?".
//
// A policy is an ordered list of rules, and the first rule that matches a
// destination decides. The operator's own rules come first, then those of the
// presets that the policy uses, in the order of use; what no rule matches gets
// the default. So an operator's rule always wins over a preset's.
//
//	version: 1
//	use: [packages]
//	default: deny                # or ask, or public: all that is not Forbidden
//	limits: {upload: 200MB, connections: 200}
//	inside: [timeline, snapshot] # what it may ask of its own sandbox; all if left out
//	rules:
//	  - {name: "*.example.com", ports: [443], action: allow, limits: {upload: 20MB, per: 24h}}
//	  - {cidr: 10.1.2.0/24, ports: [5432, "8000-8999"], action: allow, comment: the test database}
//	  - {name: paste.example.org, action: deny}
//	  - {name: api.example.org, action: allow, secrets: [{name: org, header: "Authorization: Bearer {}"}]}
//
// policy is pure: no I/O, no clock, no goroutines. It must not know how names
// are resolved or bytes are moved. A Policy is never changed once it is made
// (Allow and Deny return another), so that it may be shared freely.
package policy

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
)

// What one document may hold. Every connection walks the rules, so their
// number bounds what a connection costs.
const (
	MaxDocument = 64 << 10
	MaxRules    = 1000
	maxPorts    = 64
	maxComment  = 200
)

// Action is what becomes of a connection.
type Action string

// The actions. A rule has one of the first three; a default is Deny, Ask or
// Public.
const (
	Allow Action = "allow"
	Deny  Action = "deny"
	// Ask leaves it to the operator, who is asked while the connection waits.
	Ask Action = "ask"
	// Public allows all that is not Forbidden.
	Public Action = "public"
)

// Policy is a checked policy. One is made by Parse, Preset, or from another by
// Allow or Deny.
type Policy struct {
	// Use names presets, whose rules come after Rules.
	Use []string
	// Default is for what no rule matches. A document without one gets Public
	// if a preset that it uses has it, Deny otherwise.
	Default Action
	// Rules are the policy's own, without those of presets.
	Rules []Rule
	// Limits are for the sandbox as a whole; nil for none. Presets have none.
	Limits *Limits
	// Inside is what a machine may ask of its own sandbox: some of Asks; nil for
	// all of them.
	Inside []string

	used []*Policy // the presets in Use
}

// Rule says what becomes of connections to a name or to addresses.
type Rule struct {
	// Name is a normal name (see Normal), or "*." and one, which stands for
	// every name below it, at any depth, but not for the name itself. "" in a
	// rule about addresses.
	Name string
	// CIDR is a range of addresses without bits below its mask; the zero
	// Prefix in a rule about a name.
	CIDR netip.Prefix
	// Ports are sorted and apart. None stands for every port in a rule that
	// denies, and for 80 and 443 in one about a name that does not; a rule
	// that opens addresses always lists its ports.
	Ports []PortRange
	// Action is Allow, Deny or Ask.
	Action Action
	// Limits are for all connections by this rule together; nil for none.
	Limits *Limits
	// Secrets are what requests by this rule may use. A rule with secrets is
	// about one name and port 443.
	Secrets []Secret
	// Comment is one line of printable text.
	Comment string
}

// PortRange is the TCP ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// Limits bound what moves. A zero field is no limit.
type Limits struct {
	// UploadBytes and DownloadBytes are from and to the sandbox, within Per.
	UploadBytes, DownloadBytes int64
	// Per is the window of the byte limits, 24 hours if the document does not
	// say; 0 without byte limits.
	Per time.Duration
	// Connections are open at once.
	Connections int
	// Rate is new connections a minute.
	Rate int
}

// Asks lists what a machine can ask of its own sandbox.
func Asks() []string { return []string{"timeline", "snapshot", "rollback"} }

// MayAsk reports whether a machine may ask that of its own sandbox.
func (p *Policy) MayAsk(what string) bool {
	if p.Inside == nil {
		return slices.Contains(Asks(), what)
	}
	return slices.Contains(p.Inside, what)
}

// All returns every rule in the order in which they are tried: the policy's
// own, then those of the presets. Verdict.Index counts in it.
func (p *Policy) All() []Rule {
	rules := slices.Clone(p.Rules)
	for _, u := range p.used {
		rules = append(rules, u.Rules...)
	}
	return rules
}

// Equal reports whether p and q are the same document.
func (p *Policy) Equal(q *Policy) bool { return reflect.DeepEqual(p, q) }

// ports returns the ports that r is about.
func (r Rule) ports() []PortRange {
	switch {
	case len(r.Ports) > 0:
		return r.Ports
	case len(r.Secrets) > 0:
		return []PortRange{{443, 443}}
	case r.Action == Deny:
		return everyPort()
	}
	return []PortRange{{80, 80}, {443, 443}}
}

func everyPort() []PortRange { return []PortRange{{1, 65535}} }

func (r Rule) hasPort(port uint16) bool {
	return slices.ContainsFunc(r.ports(), func(p PortRange) bool { return p.First <= port && port <= p.Last })
}

// hasName reports whether r is about name, which may be a pattern itself:
// "*.a.example" is below "*.example".
func (r Rule) hasName(name string) bool {
	suffix, wild := strings.CutPrefix(r.Name, "*")
	return name != "" && (r.Name == name || wild && strings.HasSuffix(name, suffix))
}

// hasAddr reports whether r is about a. A rule that opens addresses opens a
// forbidden one only if its range lies within the range that is forbidden:
// 10.0.0.0/8 opens 10.1.2.3, 0.0.0.0/0 does not. A rule that denies also
// covers IPv6 addresses that carry an IPv4 address to a translator or tunnel.
func (r Rule) hasAddr(a netip.Addr) bool {
	if r.Action == Deny {
		return slices.ContainsFunc(append(carried(a), a), r.CIDR.Contains)
	}
	if !r.CIDR.Contains(a) {
		return false
	}
	s, forbidden := forbid(a)
	return !forbidden || s.in.Bits() <= r.CIDR.Bits()
}

// target returns what r is about, as an operator writes it.
func (r Rule) target() string {
	if r.Name != "" {
		return r.Name
	}
	return r.CIDR.String()
}

// Budget is what the rule is about in one line, "*.example.com ports 443": two
// rules with limits and the same budget would contradict each other.
func (r Rule) Budget() string { return r.target() + " ports " + formatPorts(r.ports(), ",") }

// check says what is wrong with the rule as a whole.
func (r Rule) check() error {
	switch {
	case r.Action == "":
		return errors.New("there is no action: want allow, deny or ask")
	case (r.Name != "") == r.CIDR.IsValid():
		return errors.New("want either name or cidr")
	case r.Name == "" && r.Action != Deny && len(r.Ports) == 0:
		return errors.New("there are no ports: a rule that opens addresses lists them")
	case r.Action == Deny && r.Limits != nil:
		return errors.New("there are limits on what is denied")
	case len(r.Secrets) > 0:
		return r.checkSecrets()
	}
	return nil
}

// contradiction finds a rule with limits on what an earlier rule limits
// differently; neither would be what the operator means. Both are -1 if there
// is none.
func contradiction(rules []Rule) (later, earlier int) {
	for j, r := range rules {
		for i, e := range rules[:j] {
			if r.Limits != nil && e.Limits != nil && *e.Limits != *r.Limits &&
				e.Name == r.Name && e.CIDR == r.CIDR && overlap(e.ports(), r.ports()) {
				return j, i
			}
		}
	}
	return -1, -1
}

// above names the first of a rule's limits that is never reached because the
// sandbox as a whole may less; "" for none. More bytes are no contradiction
// in a window that is longer than the sandbox's.
func (l *Limits) above(whole *Limits) (field string) {
	exceeds := func(limit, whole int64) bool { return whole > 0 && limit > whole }
	switch {
	case l.Per <= whole.Per && exceeds(l.UploadBytes, whole.UploadBytes):
		return "upload"
	case l.Per <= whole.Per && exceeds(l.DownloadBytes, whole.DownloadBytes):
		return "download"
	case exceeds(int64(l.Connections), int64(whole.Connections)):
		return "connections"
	case exceeds(int64(l.Rate), int64(whole.Rate)):
		return "rate"
	}
	return ""
}

// overlap reports whether some port is in both.
func overlap(a, b []PortRange) bool {
	return slices.ContainsFunc(a, func(p PortRange) bool {
		return slices.ContainsFunc(b, func(q PortRange) bool { return p.First <= q.Last && q.First <= p.Last })
	})
}

// covers reports whether every port of b is in a, both sorted and apart.
func covers(a, b []PortRange) bool {
	return !slices.ContainsFunc(b, func(q PortRange) bool {
		return !slices.ContainsFunc(a, func(p PortRange) bool { return p.First <= q.First && q.Last <= p.Last })
	})
}
