package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"bulkhead/internal/egress/policy"
	"bulkhead/internal/fault"

	"github.com/google/go-cmp/cmp"
)

func TestAllowAndDeny(t *testing.T) {
	const before = `{default: public, rules: [
		{name: "*.example.com", action: deny}, {name: a.example.com, action: allow, limits: {rate: 5}}, {name: b.example, ports: [80, 8080], action: allow}]}`
	tests := []struct {
		name, target, ports string
		deny                bool
		want                []string
	}{
		{"a new name goes first", "New.Example.", "443", false, []string{"+ allow new.example ports 443 # why"}},
		{"a hidden rule comes forward with its limits", "a.example.com", "", false,
			[]string{"+ allow a.example.com ports 80,443 limits {rate: 5} # why", "- allow a.example.com ports 80,443 limits {rate: 5}"}},
		{"an allowance replaces a denial", "*.example.com", "1-65535", false,
			[]string{"- deny *.example.com all ports", "+ allow *.example.com all ports # why"}},
		{"a rule with more ports stays", "b.example", "80", false, []string{"+ allow b.example ports 80 # why"}},
		{"a denial covers all ports", "b.example", "", true,
			[]string{"+ deny b.example all ports # why", "- allow b.example ports 80,8080"}},
		{"a range of addresses", "10.0.0.0/8", "5432,1-2", false, []string{"+ allow 10.0.0.0/8 ports 1-2,5432 # why"}},
		{"one of IPv6", "[2001:db8::1]", "443", false, []string{"+ allow 2001:db8::1/128 ports 443 # why"}},
		{"one address", "10.0.0.1", "", true, []string{"+ deny 10.0.0.1/32 all ports # why"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := parse(t, before)
			ports, err := policy.ParsePorts(tt.ports)
			if err != nil {
				t.Fatal(err)
			}
			change := p.Allow
			if tt.deny {
				change = p.Deny
			}
			changed, err := change(tt.target, ports, "why")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, policy.Diff(p, changed)); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if !p.Equal(parse(t, before)) {
				t.Error("the old policy changed, too")
			}
			if got := parse(t, string(changed.Marshal())); !got.Equal(changed) {
				t.Errorf("parsed back it is\n%s", got.Marshal())
			}
		})
	}
}

func TestAnOperatorsRuleWins(t *testing.T) {
	p := parse(t, "use: [packages]")
	host := p.All()[0].Name
	if v := p.Decide(at(host, 443)); v.Action != policy.Allow || v.Index != 0 || !strings.HasPrefix(v.Rule, "packages rule 1: allow "+host) {
		t.Errorf("by the preset: %+v", v)
	}
	denied, err := p.Deny(host, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if v := denied.Decide(at(host, 443)); v.Action != policy.Deny || v.Index != 0 {
		t.Errorf("by the operator: %+v", v)
	}
	if v := denied.Decide(at(p.All()[1].Name, 443)); v.Action != policy.Allow || v.Index != 2 || denied.All()[v.Index].Name != p.All()[1].Name {
		t.Errorf("by what else the preset has: %+v", v)
	}
}

func TestChangesThatAreRefused(t *testing.T) {
	whole := parse(t, "rules:\n"+strings.Repeat("- {name: a.example, action: deny, ports: 1}\n", policy.MaxRules))
	split := parse(t, `rules: [{name: a.example, ports: 80, action: allow, limits: {rate: 1}}, {name: a.example, ports: 443-500, action: allow, limits: {rate: 2}}]`)
	https := []policy.PortRange{{First: 443, Last: 443}}
	tests := []struct {
		name    string
		p       *policy.Policy
		target  string
		ports   []policy.PortRange
		comment string
		want    string
	}{
		{"a bad name", split, "a_.*", https, "", `"a_.*" has a wildcard that is not a first label of its own`},
		{"a bad range", split, "10.0.0.1/8", https, "", `"10.0.0.1/8" has bits below its mask: is it 10.0.0.0/8?`},
		{"addresses without ports", split, "10.0.0.0/8", nil, "", "there are no ports: a rule that opens addresses lists them"},
		{"a long comment", split, "b.example", https, strings.Repeat("x", 201), "want one line of at most 200 bytes of plain text"},
		{"one rule too many", whole, "b.example", https, "", "1001 rules are too many: at most 1000"},
		{"limits that would contradict", split, "a.example", nil, "", "a.example has several rules with limits of their own"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.p.Allow(tt.target, tt.ports, tt.comment)
			if got := fmt.Sprint(err); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got, want := fault.KindOf(err), fault.Invalid; got != want {
				t.Errorf("kind %s, want %s", got, want)
			}
		})
	}
}

func TestDiff(t *testing.T) {
	from := parse(t, "{limits: {rate: 3}, rules: [{name: a.example, action: allow}, {name: b.example, action: deny}, {name: c.example, action: ask}]}")
	to := parse(t, "{use: [packages], default: ask, rules: [{name: b.example, action: deny}, {name: a.example, action: allow}, {name: c.example, action: ask}]}")
	want := []string{
		"- default deny", "- limits {rate: 3}", "- allow a.example ports 80,443",
		"+ use packages", "+ default ask", "+ allow a.example ports 80,443",
	}
	got := policy.Diff(from, to)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if got := policy.Diff(from, from); got != nil {
		t.Errorf("to itself: %q", got)
	}
}

// A rule with a secret stays in force when the same name is allowed without:
// it would be lost unnoticed.
func TestSecretsStay(t *testing.T) {
	p := parse(t, "version: 1\n")
	p, err := p.AllowWith("api.example", nil, policy.Secret{Name: "s", Header: "x-api-key: {}"})
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.Allow("api.example", nil, ""); err != nil {
		t.Fatal(err)
	}
	for port, want := range map[uint16]int{443: 1, 80: 0} {
		v := p.Decide(policy.Destination{Name: "api.example", Port: port})
		if v.Action != policy.Allow || len(v.Secrets) != want {
			t.Errorf("port %d: %s by %s, secrets %v", port, v.Action, v.Rule, v.Secrets)
		}
	}
	again, err := policy.Parse(p.Marshal())
	if err != nil || !again.Equal(p) {
		t.Errorf("%s\nreads as %v, %v", p.Marshal(), again, err)
	}
	if p, err = p.Deny("api.example", nil, ""); err != nil {
		t.Fatal(err)
	}
	if v := p.Decide(policy.Destination{Name: "api.example", Port: 443}); v.Action != policy.Deny || len(v.Secrets) != 0 {
		t.Errorf("denied: %s by %s, secrets %v", v.Action, v.Rule, v.Secrets)
	}
}

// Who pastes something else is told what to write.
func TestTargetsThatAreNone(t *testing.T) {
	for target, hint := range map[string]string{
		"https://Api.example.com":     "write the name alone: api.example.com",
		"https://api.example.com/v1/": "write the name alone: api.example.com",
		"api.example.com/v1":          "write NAME, *.NAME or a range like 192.0.2.0/24, with :PORT or without",
		"api.example.com:":            "write NAME, *.NAME or a range like 192.0.2.0/24, with :PORT or without",
	} {
		_, err := parse(t, "{default: deny}").Allow(target, nil, "")
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "neither a name nor a range") || fault.HintOf(err) != hint {
			t.Errorf("%s: %v, hint %q", target, err, fault.HintOf(err))
		}
	}
}

func TestSplitDestination(t *testing.T) {
	for text, want := range map[string][2]string{
		"a.example:443": {"a.example", "443"}, "*.a.example:80,443": {"*.a.example", "80,443"}, "10.0.0.0/8:1-2": {"10.0.0.0/8", "1-2"},
		"a.example": {"a.example", ""}, "fd00::/8": {"fd00::/8", ""}, "fd00::/8:443": {"fd00::/8", "443"},
		"2001:db8::1": {"2001:db8::1", ""}, "[2001:db8::1]:80": {"[2001:db8::1]", "80"}, "a.example:": {"a.example:", ""},
	} {
		if target, ports := policy.SplitDestination(text); [2]string{target, ports} != want {
			t.Errorf("%s: %q and %q", text, target, ports)
		}
	}
}
