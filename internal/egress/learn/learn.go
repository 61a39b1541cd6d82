// Package learn turns what a sandbox has talked to into a policy: it records
// destinations while it is told to, proposes the smallest policy that allows
// what was allowed, and says what another policy would have decided.
//
// learn must not know how connections are made. What is recorded came from a
// guest: it is bounded, and only what was allowed gets into a proposal. A
// Recorder is safe for concurrent use; the functions are pure.
package learn

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"bulkhead/internal/egress/policy"
)

// maxSeen bounds a record: with as many rules a proposal is still a policy.
const maxSeen = 500

// Seen is a destination and what became of connections to it.
type Seen struct {
	// Name is "" for an address literal.
	Name string `json:"name,omitempty"`
	// Addr is the literal, or what a rule about addresses opened for the name.
	Addr netip.Addr `json:"addr,omitzero"`
	// Port is 0 if not even the name was resolved.
	Port    uint16 `json:"port,omitempty"`
	Allowed bool   `json:"allowed"`
	Count   int    `json:"count"`
}

// Record is what was seen.
type Record struct {
	On bool `json:"on"`
	// Since is when it began.
	Since time.Time `json:"since"`
	// Seen is sorted by name, address and port.
	Seen []Seen `json:"seen"`
	// Unrecorded counts what came when the record was full.
	Unrecorded int `json:"unrecorded,omitempty"`
}

// Recorder records while it is on. The zero value is off.
type Recorder struct {
	mu      sync.Mutex
	record  Record // without counts of the same destination twice; guarded by mu
	changed bool   // since it was kept; guarded by mu
}

// Start begins a new record.
func (r *Recorder) Start(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record, r.changed = Record{On: true, Since: now}, true
}

// Stop ends the record, which stays.
func (r *Recorder) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.On, r.changed = false, true
}

// Note records one connection, or nothing while it is off. Its Count is not
// looked at.
func (r *Recorder) Note(s Seen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.record.On {
		return
	}
	r.changed = true
	i, ok := slices.BinarySearchFunc(r.record.Seen, s, compare)
	switch {
	case ok:
		r.record.Seen[i].Count++
	case len(r.record.Seen) >= maxSeen:
		r.record.Unrecorded++
	default:
		s.Count = 1
		r.record.Seen = slices.Insert(r.record.Seen, i, s)
	}
}

// compare orders by all but the count.
func compare(a, b Seen) int {
	allowed := func(s Seen) int {
		if s.Allowed {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.Name, b.Name), a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), allowed(a)-allowed(b))
}

// Read returns a copy of the record.
func (r *Recorder) Read() Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	record := r.record
	record.Seen = slices.Clone(record.Seen)
	return record
}

// Keep returns the record as a document, nil if it is as it was kept last.
func (r *Recorder) Keep() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.changed {
		return nil, nil
	}
	r.changed = false
	return json.Marshal(r.record)
}

// Restore reads what Keep returned.
func (r *Recorder) Restore(doc []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := json.Unmarshal(doc, &r.record); err != nil {
		return err
	}
	slices.SortFunc(r.record.Seen, compare)
	return nil
}

// Propose returns the smallest policy that allows what was allowed under p. Of
// p's own rules it keeps those that deny and those that decided; what a preset
// or the default allowed gets a rule for exactly that name and port. It denies
// all else.
func Propose(p *policy.Policy, seen []Seen) (*policy.Policy, error) {
	used, single := map[int]bool{}, map[string][]policy.PortRange{}
	for _, s := range seen {
		if !s.Allowed {
			continue
		}
		v := p.Decide(policy.Destination{Name: s.Name, Addr: s.Addr, Port: s.Port})
		if s.Name != "" && s.Addr.IsValid() { // opened by a rule of its own
			used[p.Decide(policy.Destination{Addr: s.Addr, Port: s.Port}).Index] = true
		}
		if 0 <= v.Index && v.Index < len(p.Rules) {
			used[v.Index] = true
			continue
		}
		target := s.Name
		if target == "" {
			target = s.Addr.String()
		}
		single[target] = append(single[target], policy.PortRange{First: s.Port, Last: s.Port})
	}
	small := &policy.Policy{Default: policy.Deny, Limits: p.Limits, Inside: p.Inside}
	for i, r := range p.Rules {
		if used[i] || r.Action == policy.Deny {
			small.Rules = append(small.Rules, r)
		}
	}
	// Each goes before the others: so in reverse they end up in order.
	for _, target := range slices.Backward(slices.Sorted(maps.Keys(single))) {
		var err error
		if small, err = small.Allow(target, single[target], ""); err != nil {
			return nil, err
		}
	}
	return small, nil
}

// Change is a destination about which another policy says something else.
type Change struct {
	Seen
	Now  policy.Action
	Rule string
}

// Replay says what p would have decided otherwise than was decided.
func Replay(p *policy.Policy, seen []Seen) (changes []Change) {
	for _, s := range seen {
		v := decide(p, s)
		if (v.Action == policy.Allow) != s.Allowed {
			changes = append(changes, Change{s, v.Action, v.Rule})
		}
	}
	return changes
}

func decide(p *policy.Policy, s Seen) policy.Verdict {
	if s.Port == 0 {
		return p.MayResolve(s.Name)
	}
	v := p.Decide(policy.Destination{Name: s.Name, Addr: s.Addr, Port: s.Port})
	if s.Name != "" && s.Addr.IsValid() && v.Action == policy.Allow && !p.AllowsAddr(s.Addr, s.Port) {
		return p.Decide(policy.Destination{Addr: s.Addr, Port: s.Port})
	}
	return v
}
