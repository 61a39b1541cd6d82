package policy_test

import (
	"net/netip"
	"strings"
	"testing"

	"bulkhead/internal/egress/policy"
)

// FuzzParse: a document is refused in one line, or is the same once it is
// written and read again; and then it decides whatever it is asked.
func FuzzParse(f *testing.F) {
	for _, doc := range []string{
		full, decisions, "", "{}", "default: public", "use: [packages, public]", "rules: [{name: '*.a', action: deny}]",
		`{"version": 1, "rules": [{"cidr": "::/0", "ports": ["1-65535"], "action": "ask"}]}`,
		"rules: &a [*a]", "? [a]\n: b", "---\n...\n---", "rules: [{name: !!binary YQ==, action: deny}]", "\xff\xfe", "a: !!int \"b\"",
		"limits: {upload: 1023KiB, per: 90m}",
	} {
		f.Add([]byte(doc), "a.example", []byte{10, 0, 0, 1}, uint16(443))
	}
	f.Add([]byte("default: public"), "*.", []byte("\x00\x64\xff\x9b\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x00\x00\x01"), uint16(0))
	f.Fuzz(func(t *testing.T, doc []byte, name string, addr []byte, port uint16) {
		p, err := policy.Parse(doc)
		if err != nil {
			if text := err.Error(); strings.ContainsAny(text, "\n\r") || len(text) > 1000 {
				t.Errorf("not one line: %q", text)
			}
			return
		}
		again, err := policy.Parse(p.Marshal())
		if err != nil {
			t.Fatalf("parse back: %v\n%s", err, p.Marshal())
		}
		if !p.Equal(again) {
			t.Errorf("differs once parsed back: %q\n%s", policy.Diff(p, again), p.Marshal())
		}
		a, _ := netip.AddrFromSlice(addr)
		literal := p.Decide(policy.Destination{Addr: a, Port: port})
		if _, forbidden := policy.Forbidden(a); forbidden && literal.Action != policy.Deny && literal.Index < 0 {
			t.Errorf("a default opens %s: %+v", a, literal)
		}
		if literal.Action == policy.Allow && literal.Index >= 0 != p.AllowsAddr(a, port) {
			t.Errorf("Decide and AllowsAddr differ about %s: %+v", a, literal)
		}
		v := p.Decide(policy.Destination{Name: name, Addr: a, Port: port})
		if name != "" && v.Action != policy.Deny && p.MayResolve(name).Action == policy.Deny {
			t.Errorf("%q may be reached but not looked up: %+v", name, v)
		}
		if strings.ContainsAny(v.Rule, "\n\r") {
			t.Errorf("not one line: %q", v.Rule)
		}
		if denied, err := p.Deny(name, nil, ""); err == nil {
			if v := denied.Decide(policy.Destination{Name: name, Port: 443}); v.Action != policy.Deny {
				t.Errorf("%q was denied: %+v", name, v)
			}
		}
	})
}
