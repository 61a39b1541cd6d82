package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/egress/policy"
	"bulkhead/internal/fault"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// full has everything that a document can have.
const full = `# The machine that builds releases.
version: 1
use: [packages]
default: ask
limits: {upload: 200MB, download: 4GiB, per: 24h, connections: 200, rate: 600}
rules:
  - name: "*.Example.COM."
    ports: [443, "8000-8999", 8443, 80]
    action: allow
    limits: {upload: 20MB, connections: 10}
    comment: 'the "mirror" \ ä'
  - {cidr: 10.1.2.0/24, ports: 5432, action: allow}
  - {cidr: "2606:4700::1111", ports: [53], action: ask}
  - {name: paste.example.org, action: deny}
`

func parse(t *testing.T, doc string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(doc))
	if err != nil {
		t.Fatalf("parse %s: %v", doc, err)
	}
	return p
}

func TestParseReadsEverything(t *testing.T) {
	want := &policy.Policy{
		Use: []string{"packages"}, Default: policy.Ask,
		Limits: &policy.Limits{UploadBytes: 200e6, DownloadBytes: 4 << 30, Per: 24 * time.Hour, Connections: 200, Rate: 600},
		Rules: []policy.Rule{
			{
				Name: "*.example.com", Ports: []policy.PortRange{{80, 80}, {443, 443}, {8000, 8999}}, Action: policy.Allow,
				Limits:  &policy.Limits{UploadBytes: 20e6, Per: 24 * time.Hour, Connections: 10},
				Comment: `the "mirror" \ ä`,
			},
			{CIDR: netip.MustParsePrefix("10.1.2.0/24"), Ports: []policy.PortRange{{5432, 5432}}, Action: policy.Allow},
			{CIDR: netip.MustParsePrefix("2606:4700::1111/128"), Ports: []policy.PortRange{{53, 53}}, Action: policy.Ask},
			{Name: "paste.example.org", Action: policy.Deny},
		},
	}
	// Equal methods would compare what the presets hold, too.
	type plain policy.Policy
	diff := cmp.Diff((*plain)(want), (*plain)(parse(t, full)), cmpopts.IgnoreUnexported(plain{}), cmpopts.EquateComparable(netip.Prefix{}))
	if diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
}

func TestParseReadsJSON(t *testing.T) {
	doc := "{\n\t\"version\": 1,\n\t\"default\": \"deny\",\n\t\"rules\": [\n\t\t{\"name\": \"a.example\", \"ports\": [443, \"8000-8001\"], \"action\": \"allow\", \"comment\": \"a/b \\u00e4\"}\n\t]\n}\n"
	want := parse(t, "rules: [{name: a.example, ports: [443, 8000-8001], action: allow, comment: a/b ä}]")
	if got := parse(t, doc); !got.Equal(want) {
		t.Errorf("got\n%s, want\n%s", got.Marshal(), want.Marshal())
	}
}

func TestMarshalIsCanonical(t *testing.T) {
	want := `version: 1
use: [packages]
default: ask
limits: {upload: 200MB, download: 4GiB, per: 24h, connections: 200, rate: 600}
rules:
  - {name: "*.example.com", ports: [80, 443, 8000-8999], action: allow, limits: {upload: 20MB, per: 24h, connections: 10}, comment: "the \"mirror\" \\ ä"}
  - {cidr: "10.1.2.0/24", ports: [5432], action: allow}
  - {cidr: "2606:4700::1111/128", ports: [53], action: ask}
  - {name: "paste.example.org", action: deny}
`
	p := parse(t, full)
	if diff := cmp.Diff(want, string(p.Marshal())); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
	if got := parse(t, want); !got.Equal(p) {
		t.Errorf("parsed back it is\n%s", got.Marshal())
	}
}

func TestParseRefuses(t *testing.T) {
	rule := func(fields string) string { return "version: 1\nrules:\n  - {" + fields + "}\n" }
	tests := []struct{ name, doc, want string }{
		{"an empty document", "", "document is empty"},
		{"a comment alone", "# nothing\n", "document is empty"},
		{"a list", "- a\n", "line 1: document: want version, use, default, limits, inside, rules"},
		{"null", "null\n", "line 1: document: want version, use, default, limits, inside, rules"},
		{"a second document", "default: deny\n---\ndefault: public\n", "line 2: something follows the document"},
		{"half a document", "rules: [\n", "line 1: did not find expected node content"},
		{"another version", "version: 2\n", "line 1: version: 2 is not 1, the only version there is"},
		{"version as text", "version: \"1\"\n", "line 1: version: want a whole number"},
		{"an unknown field", "version: 1\nallow: all\n", `line 2: document: unknown field "allow"`},
		{"an unknown field of a rule", rule("name: a.example, action: allow, port: 1"), `line 3: rules[0]: unknown field "port"`},
		{"a merge", "a: &x {}\n<<: *x\n", `line 1: document: unknown field "a"`},
		{"an alias", "rules:\n  - &r {name: a.example, action: deny}\n  - *r\n", "line 3: rules[1]: want name, cidr, ports, action, limits, secrets, comment"},
		{"a field twice", "default: deny\ndefault: public\n", "line 2: default: appears twice"},
		{"null for a list", "rules:\n", "line 1: rules: want a list"},
		{"an unknown default", "default: allow\n", `line 1: default: "allow" is not one of deny, ask, public`},
		{"an unknown preset", "use: [everything]\n", `line 1: use[0]: "everything" is not one of the presets none, packages, public`},
		{"a preset twice", "use: [none, none]\n", "line 1: use[1]: none appears twice"},
		{"no action", rule("name: a.example"), "line 3: rules[0]: there is no action: want allow, deny or ask"},
		{"an unknown action", rule("name: a.example, action: public"), `line 3: rules[0].action: "public" is not one of allow, deny, ask`},
		{"neither name nor cidr", rule("action: deny"), "line 3: rules[0]: want either name or cidr"},
		{"name and cidr", rule("name: a.example, cidr: 10.0.0.0/8, action: deny"), "line 3: rules[0]: want either name or cidr"},
		{"a wildcard in the middle", rule("name: a.*.example, action: deny"), `line 3: rules[0].name: "a.*.example" has a wildcard that is not a first label of its own`},
		{"a wildcard in a label", rule("name: a*.example, action: deny"), `line 3: rules[0].name: "a*.example" has a wildcard that is not a first label of its own`},
		{"a wildcard alone", rule(`name: "*", action: deny`), `line 3: rules[0].name: "*" has a wildcard that is not a first label of its own`},
		{"two wildcards", rule(`name: "*.*.example", action: deny`), `line 3: rules[0].name: "*.*.example" has a wildcard that is not a first label of its own`},
		{"a name that is not ASCII", rule("name: bücher.example, action: deny"), `line 3: rules[0].name: "bücher.example" is not ASCII`},
		{"an address as a name", rule(`name: "10.0.0.1", action: deny`), `line 3: rules[0].name: "10.0.0.1" is not a host name but an address`},
		{"a name with a newline", rule(`name: "a\nb", action: deny`), `line 3: rules[0].name: "a\nb" is not a host name`},
		{"a list as a name", rule("name: [a], action: deny"), "line 3: rules[0].name: want text"},
		{"a range with a bad mask", rule("cidr: 10.0.0.0/33, action: deny"), `line 3: rules[0].cidr: "10.0.0.0/33" is not a range of addresses like 192.0.2.0/24`},
		{"a range with bits below its mask", rule("cidr: 10.0.0.1/8, action: deny"), `line 3: rules[0].cidr: "10.0.0.1/8" has bits below its mask: is it 10.0.0.0/8?`},
		{"a range with a zone", rule(`cidr: "fe80::1%eth0", action: deny`), `line 3: rules[0].cidr: "fe80::1%eth0" is not a range of addresses like 192.0.2.0/24`},
		{"IPv4 in IPv6", rule(`cidr: "::ffff:10.0.0.0/104", action: deny`), `line 3: rules[0].cidr: "::ffff:10.0.0.0/104" is IPv4 in IPv6: write it as IPv4`},
		{"open addresses without ports", rule("cidr: 10.0.0.0/8, action: allow"), "line 3: rules[0]: there are no ports: a rule that opens addresses lists them"},
		{"port 0", rule("name: a.example, ports: [443,\n      0], action: allow"), "line 4: rules[0].ports: 0 is not a port from 1 to 65535"},
		{"port 65536", rule("name: a.example, ports: 65536, action: allow"), "line 3: rules[0].ports: 65536 is not a port from 1 to 65535"},
		{"a negative port", rule("name: a.example, ports: -1, action: allow"), "line 3: rules[0].ports: -1 is not a port from 1 to 65535"},
		{"an octal port", rule("name: a.example, ports: 0443, action: allow"), "line 3: rules[0].ports: 0443 is not a port from 1 to 65535"},
		{"half a port", rule("name: a.example, ports: 4.5, action: allow"), "line 3: rules[0].ports: want a whole number"},
		{"a service for a port", rule("name: a.example, ports: [https], action: allow"), `line 3: rules[0].ports: "https" is not a port from 1 to 65535`},
		{"ports backwards", rule("name: a.example, ports: [90-80], action: allow"), "line 3: rules[0].ports: 90-80 is no range: its end is before its beginning"},
		{"ports in one text", rule(`name: a.example, ports: "80,443", action: allow`), `line 3: rules[0].ports: "80,443" is not a port or a range of ports`},
		{"an empty list of ports", rule("name: a.example, ports: [], action: allow"), "line 3: rules[0].ports: the list is empty: leave it out for the usual ports"},
		{"a comment of two lines", rule(`name: a.example, action: allow, comment: "a\nb"`), "line 3: rules[0].comment: want one line of at most 200 bytes of plain text"},
		{"no size", rule("name: a.example, action: allow, limits: {upload: much}"), `line 3: rules[0].limits.upload: "much" is not a size from 1B to 1024TiB, like 20MB`},
		{"a size of nothing", rule("name: a.example, action: allow, limits: {upload: 0}"), `line 3: rules[0].limits.upload: 0 is not a size from 1B to 1024TiB, like 20MB`},
		{"a size beyond all", rule("name: a.example, action: allow, limits: {upload: 9999999999TiB}"), `line 3: rules[0].limits.upload: "9999999999TiB" is not a size from 1B to 1024TiB, like 20MB`},
		{"too short a window", rule("name: a.example, action: allow, limits: {upload: 1, per: 1s}"), `line 3: rules[0].limits.per: "1s" is not whole minutes from 1m to 744h, like 24h`},
		{"no connections", rule("name: a.example, action: allow, limits: {connections: 0}"), "line 3: rules[0].limits.connections: 0 is not a whole number from 1 to 65535"},
		{"limits without any", rule("name: a.example, action: allow, limits: {}"), "line 3: rules[0].limits: there is none: want upload, download, connections or rate"},
		{"a window without bytes", rule("name: a.example, action: allow, limits: {rate: 1, per: 1h}"), "line 3: rules[0].limits.per: there is no upload or download that it could be for"},
		{"limits on what is denied", rule("name: a.example, action: deny, limits: {rate: 1}"), "line 3: rules[0]: there are limits on what is denied"},
		{"a secret without a name", rule(`name: a.example, action: allow, secrets: [{env: A}]`), "line 3: rules[0].secrets[0]: there is no name of a secret"},
		{"a secret for nothing", rule(`name: a.example, action: allow, secrets: [{name: s}]`), "line 3: rules[0].secrets[0]: want either header or env"},
		{"a secret in two ways", rule(`name: a.example, action: allow, secrets: [{name: s, env: A, header: "A: {}"}]`), "line 3: rules[0].secrets[0]: want either header or env"},
		{"a secret with a path for a name", rule(`name: a.example, action: allow, secrets: [{name: ../s, env: A}]`), `line 3: rules[0].secrets[0].name: "../s" is no name of a secret`},
		{"a header without a place", rule(`name: a.example, action: allow, secrets: [{name: s, header: "A: b"}]`), `line 3: rules[0].secrets[0].header: "A: b" does not have {} once, for the secret`},
		{"a header of two lines", rule(`name: a.example, action: allow, secrets: [{name: s, header: "A: {}\r\nB: c"}]`), `line 3: rules[0].secrets[0].header: "A: {}\r\nB: c" is not a header like "x-api-key: {}"`},
		{"a header of the connection", rule(`name: a.example, action: allow, secrets: [{name: s, header: "host: {}"}]`), `line 3: rules[0].secrets[0].header: header Host is not for secrets`},
		{"a variable that is none", rule(`name: a.example, action: allow, secrets: [{name: s, env: A=B}]`), `line 3: rules[0].secrets[0].env: "A=B" is no name of a variable`},
		{"a secret for many names", rule(`name: "*.example", action: allow, secrets: [{name: s, env: A}]`), "line 3: rules[0]: secrets are for one name, not for many"},
		{"a secret for addresses", rule(`cidr: 10.0.0.0/8, ports: 443, action: allow, secrets: [{name: s, env: A}]`), "line 3: rules[0]: secrets are for one name, not for many"},
		{"a secret for what is denied", rule(`name: a.example, action: deny, secrets: [{name: s, env: A}]`), "line 3: rules[0]: there are secrets for what is denied"},
		{"a secret over plain HTTP", rule(`name: a.example, ports: [80, 443], action: allow, secrets: [{name: s, env: A}]`), "line 3: rules[0]: secrets go over HTTPS, port 443, only"},
		{"a header for two secrets", rule(`name: a.example, action: allow, secrets: [{name: s, header: "a: {}"}, {name: t, header: "A: {}"}]`), "line 3: rules[0]: t as header A is there twice"},
		{"a variable for two secrets", "rules:\n  - {name: a.example, action: allow, secrets: [{name: s, env: A}]}\n  - {name: b.example, action: allow, secrets: [{name: t, env: A}]}\n", `line 3: rules[1]: "A" is another secret's already`},
		{"an ask that there is not", "inside: [snapshot, reboot]\n", `line 1: inside[1]: "reboot" is not one of timeline, snapshot, rollback, or appears twice`},
		{"a limit above the sandbox's", "limits: {upload: 20MB}\nrules:\n  - name: a.example\n    action: allow\n    limits:\n      upload: 30MB\n", "line 6: rules[0].limits.upload: it is above the sandbox's own limit"},
		{"a rate above the sandbox's", "limits: {rate: 5}\nrules: [{name: a.example, action: ask, limits: {rate: 6}}]\n", "line 2: rules[0].limits.rate: it is above the sandbox's own limit"},
		{"limits that contradict", "rules:\n  - {name: a.example, action: allow, limits: {rate: 1}}\n  - {name: a.example, ports: [400-500], action: allow, limits: {rate: 2}}\n", "line 3: rules[1]: its limits contradict those of rules[0], which is about the same"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := policy.Parse([]byte(tt.doc))
			if err == nil {
				t.Fatalf("parsed:\n%s", p.Marshal())
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if got, want := fault.KindOf(err), fault.Invalid; got != want {
				t.Errorf("kind %s, want %s", got, want)
			}
		})
	}
}

func TestParseIsBounded(t *testing.T) {
	many := func(n int) string {
		return "rules:\n" + strings.Repeat("- {name: a.example, action: deny}\n", n)
	}
	ports := "rules: [{name: a.example, action: deny, ports: ["
	for i := range 65 {
		ports += fmt.Sprint(1+2*i) + ","
	}
	tests := []struct{ name, doc, want string }{
		{"1000 rules pass", many(policy.MaxRules), ""},
		{"1001 rules do not", many(policy.MaxRules + 1), "line 2: rules: 1001 are too many: at most 1000"},
		{"64 KiB pass", "default: deny\n" + strings.Repeat("#", policy.MaxDocument-14), ""},
		{"one byte more does not", "default: deny\n" + strings.Repeat("#", policy.MaxDocument-13), "document has 65537 bytes, of 65536 at most"},
		{"65 ports do not", ports + "]}]", "line 1: rules[0].ports: 65 ports and ranges are too many: at most 64"},
		{"deep nesting does not", strings.Repeat("[", policy.MaxDocument), "exceeded max depth of 10000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := policy.Parse([]byte(tt.doc))
			if got := fmt.Sprint(err); tt.want == "" && err != nil || tt.want != "" && !strings.Contains(got, tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestLimitsThatAgree(t *testing.T) {
	for name, doc := range map[string]string{
		"more bytes in a longer window":   "limits: {upload: 1MB, per: 1h}\nrules: [{name: a.example, action: allow, limits: {upload: 5MB}}]",
		"the same limits twice":           "rules: [{name: a.example, action: allow, limits: {rate: 1}}, {name: a.example, action: allow, limits: {rate: 1}}]",
		"other limits for other ports":    "rules: [{name: a.example, ports: 80, action: allow, limits: {rate: 1}}, {name: a.example, ports: 443, action: allow, limits: {rate: 2}}]",
		"other limits for narrower names": "rules: [{name: b.a.example, action: allow, limits: {rate: 1}}, {name: '*.a.example', action: allow, limits: {rate: 2}}]",
	} {
		t.Run(name, func(t *testing.T) { parse(t, doc) })
	}
}

func TestHints(t *testing.T) {
	for doc, want := range map[string]string{
		"rules: [{name: bücher.example, action: deny}]": "write the name in punycode: xn--...",
		"rules: [{name: 10.0.0.1, action: deny}]":       "a rule about addresses has cidr instead of name",
		"rule: []": "the fields are version, use, default, limits, inside, rules",
	} {
		_, err := policy.Parse([]byte(doc))
		if got := fault.HintOf(err); got != want {
			t.Errorf("%s: %v, hint %q, want %q", doc, err, got, want)
		}
	}
}

func TestNormal(t *testing.T) {
	long := strings.Repeat("a", 63)
	tests := []struct{ name, in, want string }{
		{"as it is", "a.example", "a.example"},
		{"lower case without a dot", "A.Example.", "a.example"},
		{"digits and hyphens", "r3---x1.3a.example", "r3---x1.3a.example"},
		{"underscores", "_dmarc.a_b.example", "_dmarc.a_b.example"},
		{"punycode", "xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"one label", "localhost", "localhost"},
		{"63 bytes", long + ".example", long + ".example"},
		{"253 bytes", strings.Repeat(long+".", 3) + strings.Repeat("b", 61), strings.Repeat(long+".", 3) + strings.Repeat("b", 61)},
		{"not 254 bytes", strings.Repeat(long+".", 3) + strings.Repeat("b", 62), ""},
		{"not 64 bytes", long + "a.example", ""},
		{"not empty", "", ""},
		{"not the root", ".", ""},
		{"not two dots", "a..example", ""},
		{"not two dots at the end", "a.example..", ""},
		{"not a dot first", ".example", ""},
		{"not a hyphen first", "-a.example", ""},
		{"not a hyphen last", "a-.example", ""},
		{"not a space", "a b.example", ""},
		{"not a NUL", "a.example\x00.b", ""},
		{"not a port", "a.example:443", ""},
		{"not a wildcard", "*.example", ""},
		{"not a long s, which folds to s", "ſ.example", ""},
		{"not a Kelvin sign, which folds to k", "\u212a.example", ""},
		{"not IPv4", "127.0.0.1", ""},
		{"not a number", "2130706433", ""},
		{"not hexadecimal", "0x7f000001", ""},
		{"not half hexadecimal", "127.0x1", ""},
		{"not octal", "0177.1", ""},
		{"not IPv6", "::1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := policy.Normal(tt.in)
			if got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("got %q and %v, want %q", got, err, tt.want)
			}
		})
	}
}
