package policy

import (
	"fmt"
	"net/netip"
)

// Destination is where a connection wants to go. Nothing in it is trusted.
type Destination struct {
	// Name is what the sandbox asked for; "" for an address literal.
	Name string
	// Addr is the literal. It does not count if there is a name: what a name
	// resolves to is judged by Forbidden, AllowsAddr and DeniesAddr.
	Addr netip.Addr
	Port uint16
}

// Verdict is what becomes of a connection, and why.
type Verdict struct {
	// Action is Allow, Deny or Ask.
	Action Action
	// Rule says in one line what decided: "rule 3: allow a.example ports 443",
	// "packages rule 7: ...", "default: deny". Rules count from 1.
	Rule string
	// Index is the rule's place in All, from 0; -1 if none matched.
	Index int
	// Limits are the rule's; nil for none. The policy's hold beside them.
	Limits *Limits
	// Budget is what a rule with limits is about, by which they are counted: it
	// stays when rules before it come and go.
	Budget string
	// Secrets are those that the rule lets requests use.
	Secrets []Secret
}

// Decide says what becomes of a connection: the first rule that matches
// decides, the default if none does. An address literal that is Forbidden is
// denied unless a rule names its range, whatever the default.
func (p *Policy) Decide(d Destination) Verdict {
	if d.Port == 0 {
		return refusal("0 is not a port")
	}
	if d.Name == "" {
		return p.decideAddr(plain(d.Addr), d.Port)
	}
	name, err := Normal(d.Name)
	if err != nil {
		return refusal(err.Error())
	}
	if v, ok := p.first(func(r Rule) bool { return r.hasName(name) && r.hasPort(d.Port) }); ok {
		return v
	}
	return p.otherwise()
}

func (p *Policy) decideAddr(a netip.Addr, port uint16) Verdict {
	if v, ok := p.firstAddr(a, port); ok {
		return v
	}
	v := p.otherwise()
	if why, forbidden := Forbidden(a); forbidden && v.Action != Deny {
		v.Action = Deny
		v.Rule += fmt.Sprintf(", but %s is %s", a, why)
	}
	return v
}

// MayResolve says whether a name may be looked up: allowed if some port of it
// is, else to be asked for if some port of it is.
func (p *Policy) MayResolve(name string) Verdict {
	name, err := Normal(name)
	if err != nil {
		return refusal(err.Error())
	}
	// The decision changes only where some rule's ports begin or end, so
	// trying each of these places tries every port.
	try := []uint16{443, 1}
	for _, r := range p.All() {
		if r.hasName(name) {
			for _, ports := range r.ports() {
				try = append(try, ports.First, max(ports.Last, ports.Last+1)) // 65536 is 0
			}
		}
	}
	best := p.Decide(Destination{Name: name, Port: 443})
	for _, port := range try {
		if best.Action == Allow {
			break
		}
		if v := p.Decide(Destination{Name: name, Port: port}); v.Action != Deny {
			best = v
		}
	}
	return best
}

// AllowsAddr reports whether a rule about addresses allows a and port. After
// a name is resolved it opens what is Forbidden otherwise.
func (p *Policy) AllowsAddr(a netip.Addr, port uint16) bool {
	v, ok := p.firstAddr(plain(a), port)
	return ok && v.Action == Allow
}

// DeniesAddr reports whether a rule about addresses denies a and port, and
// which. After a name is resolved it closes what the name's rule allows.
func (p *Policy) DeniesAddr(a netip.Addr, port uint16) (rule string, denied bool) {
	v, ok := p.firstAddr(plain(a), port)
	return v.Rule, ok && v.Action == Deny
}

func (p *Policy) firstAddr(a netip.Addr, port uint16) (Verdict, bool) {
	return p.first(func(r Rule) bool { return r.CIDR.IsValid() && r.hasAddr(a) && r.hasPort(port) })
}

// first returns the verdict of the first rule that matches.
func (p *Policy) first(match func(Rule) bool) (Verdict, bool) {
	for i, r := range p.Rules {
		if match(r) {
			v := Verdict{Action: r.Action, Rule: fmt.Sprintf("rule %d: %s", i+1, r), Index: i, Limits: r.Limits, Secrets: r.Secrets}
			if v.Limits != nil {
				v.Budget = r.Budget()
			}
			return v, true
		}
	}
	before := len(p.Rules)
	for i, u := range p.used {
		if v, ok := u.first(match); ok {
			v.Rule, v.Index = p.Use[i]+" "+v.Rule, v.Index+before
			return v, true
		}
		before += len(u.Rules)
	}
	return Verdict{}, false
}

func (p *Policy) otherwise() Verdict {
	v := Verdict{Action: Deny, Rule: "default: " + string(p.Default), Index: -1}
	switch p.Default {
	case Public:
		v.Action = Allow
	case Ask:
		v.Action = Ask
	}
	return v
}

// refusal is for what is no destination at all.
func refusal(why string) Verdict { return Verdict{Action: Deny, Rule: "refused: " + why, Index: -1} }

// plain returns a as rules know it: IPv4 in IPv6 as IPv4, and without a zone,
// in which Prefix.Contains would find nothing.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
