package policy

import (
	"net/netip"
	"slices"
	"strings"

	"bulkhead/internal/fault"
)

// Allow returns p with a first rule that allows target: a name, "*." and a
// name, a range of addresses or an address. Ports are as ParsePorts returns
// them, none for a rule's usual ones. Older rules about the same target and no
// other ports go; the new one keeps their limits. The error is of kind
// fault.Invalid. p is as it was, either way.
func (p *Policy) Allow(target string, ports []PortRange, comment string) (*Policy, error) {
	return p.with(Rule{Action: Allow, Ports: ports, Comment: comment}, target)
}

// Deny returns p with a first rule that denies target, on every port if there
// are none, and is like Allow otherwise.
func (p *Policy) Deny(target string, ports []PortRange, comment string) (*Policy, error) {
	return p.with(Rule{Action: Deny, Ports: ports, Comment: comment}, target)
}

// AllowWith returns p with a first rule that lets requests to a name use a
// secret, and is like Allow otherwise.
func (p *Policy) AllowWith(name string, ports []PortRange, s Secret) (*Policy, error) {
	_, err := parseSecretName(s.Name)
	if err == nil && s.Header != "" {
		_, err = parseHeader(s.Header)
	}
	if err == nil && s.Env != "" {
		_, err = parseVariable(s.Env)
	}
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	return p.with(Rule{Action: Allow, Ports: ports, Secrets: []Secret{s}}, name)
}

func (p *Policy) with(r Rule, target string) (*Policy, error) {
	var err error
	r.Name, r.CIDR, err = parseTarget(target)
	if err == nil {
		r.Ports, err = joinPorts(r.Ports)
	}
	if err == nil {
		_, err = parseComment(r.Comment)
	}
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	changed := *p
	changed.Rules = []Rule{r}
	for _, old := range p.Rules {
		same := old.target() == r.target()
		if same && len(old.Secrets) > 0 && len(r.Secrets) == 0 && r.Action == Allow {
			// It is narrower and allows the same; after the new rule it would
			// never count.
			changed.Rules = slices.Insert(changed.Rules, len(changed.Rules)-1, old)
			continue
		}
		if same && overlap(old.ports(), r.ports()) && r.Action != Deny && changed.Rules[0].Limits == nil {
			changed.Rules[0].Limits = old.Limits
		}
		if !same || !covers(r.ports(), old.ports()) {
			changed.Rules = append(changed.Rules, old)
		}
	}
	if len(changed.Rules) > MaxRules {
		return nil, fault.New(fault.Invalid, "%d rules are too many: at most %d", len(changed.Rules), MaxRules)
	}
	if i, _ := contradiction(changed.Rules); i >= 0 {
		return nil, fault.New(fault.Invalid, "%s has several rules with limits of their own", r.target()).
			Hint("edit the document and set it as a whole")
	}
	if i, variable := ambiguous(changed.Rules); i >= 0 {
		return nil, fault.New(fault.Invalid, "variable %s is another secret's already", variable)
	}
	return &changed, nil
}

// parseTarget reads what people write: a name or an address, where a document has
// a field for each. Many have a URL at hand.
func parseTarget(target string) (name string, cidr netip.Prefix, err error) {
	if cidr, err = parseCIDR(strings.Trim(target, "[]")); err == nil {
		return "", cidr, nil
	}
	if _, perr := netip.ParsePrefix(target); perr == nil {
		return "", cidr, err // a range, and it says what is wrong with it
	}
	if strings.ContainsAny(target, "/:") {
		_, rest, isURL := strings.Cut(target, "://")
		host, _, _ := strings.Cut(rest, "/")
		err := fault.New(fault.Invalid, "%.80q is neither a name nor a range of addresses", target)
		if name, perr := parsePattern(host); isURL && perr == nil {
			return "", netip.Prefix{}, err.Hint("write the name alone: %s", name)
		}
		return "", netip.Prefix{}, err.Hint("write NAME, *.NAME or a range like 192.0.2.0/24, with :PORT or without")
	}
	name, err = parsePattern(target)
	return name, netip.Prefix{}, err
}

// Diff returns what changes from one policy to another as lines that begin
// with "- " or "+ ", in the order of the documents; none for equal ones.
func Diff(from, to *Policy) []string {
	a, b := from.lines(), to.lines()
	// common[i][j] is how many lines a[i:] and b[j:] have in common, in order.
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i, x := range slices.Backward(a) {
		for j, y := range slices.Backward(b) {
			common[i][j] = max(common[i+1][j], common[i][j+1])
			if x == y {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	var diff list
	for len(a) > 0 || len(b) > 0 {
		i, j := len(common)-1-len(a), len(common[0])-1-len(b)
		switch {
		case len(a) > 0 && len(b) > 0 && a[0] == b[0]:
			a, b = a[1:], b[1:]
		case len(b) == 0 || len(a) > 0 && common[i+1][j] >= common[i][j+1]:
			diff.add(true, "- %s", a[0])
			a = a[1:]
		default:
			diff.add(true, "+ %s", b[0])
			b = b[1:]
		}
	}
	return diff
}

func (p *Policy) lines() []string {
	var l list
	for _, name := range p.Use {
		l.add(true, "use %s", name)
	}
	l.add(true, "default %s", p.Default)
	l.add(p.Limits != nil, "limits {%s}", p.Limits)
	l.add(p.Inside != nil, "inside [%s]", strings.Join(p.Inside, ", "))
	for _, r := range p.Rules {
		l.add(true, "%s", r)
	}
	return l
}
