package e2e_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/egress/policy"
	"bulkhead/test/harness"
)

// An ordinary client installs an ordinary package with the policy that every
// sandbox has at first.
func TestAptInstalls(t *testing.T) {
	h := host(t)
	b := h.Create("apt")
	openMirror(t, h, b)
	b.Sh("apt-get update -q")
	const install = "DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "
	b.Sh(install + "--download-only postgresql")
	for _, step := range []string{"postgresql-common", "$(apt-cache depends postgresql | awk '/Depends: postgresql-[0-9]/ { print $2 }')", "postgresql"} { // each takes a while in a translator
		b.Sh(install + step)
	}
	ask := `su postgres -c "psql -Atc 'select 6*7'"`
	if got := b.Sh("systemctl is-active postgresql; " + ask); got != "active\n42" {
		t.Errorf("PostgreSQL says %q", got)
	}
	h.Must("pause", b.Name)
	if got := b.Sh(ask); got != "42" {
		t.Errorf("after a pause it says %q", got)
	}
	var e client.Egress
	h.JSON(&e, "egress", "show", b.Name)
	var down int64
	for _, u := range e.Used {
		down += u.DownBytes
	}
	if down < 1<<20 { // the lists alone are more
		t.Errorf("%d bytes were counted: %+v", down, e.Used)
	}
	var r client.BlastRadius
	h.JSON(&r, "blast-radius", b.Name)
	if len(r.Holes) > 0 || len(r.Neighbours) > 0 || len(r.Network) < 10 || r.Host == nil {
		t.Errorf("blast radius %+v", r)
	}
}

// openMirror names the addresses of the guest's Debian mirror where they are not
// public: a mirror of the house, on a host that has one.
func openMirror(t *testing.T, h *harness.Host, b *harness.Box) {
	t.Helper()
	mirror := b.Sh(`sed -n 's#^deb [^h]*http://\([^/]*\)/.*#\1#p' /etc/apt/sources.list | head -1`)
	addresses, err := net.LookupHost(mirror)
	if err != nil {
		t.Skipf("this host does not reach %s: %v", mirror, err)
	}
	for _, a := range addresses {
		if _, forbidden := policy.Forbidden(netip.MustParseAddr(a)); forbidden {
			h.Must("egress", "allow", b.Name, a+"/32:80,443")
		}
	}
}

// A refusal says what was refused, by which rule, and what to do, to whoever
// looks; and a change of the policy counts at once.
func TestDenialsExplainThemselves(t *testing.T) {
	h := host(t)
	b := h.Create("denied")
	if r := b.Exec("getent", "hosts", "forbidden.example"); r.Code == 0 {
		t.Errorf("resolved: %s", r.Stdout)
	}
	b.Sh(`until grep -q forbidden.example /run/bulkhead/denied.json 2>/dev/null; do sleep 0.1; done`)
	if got := b.Sh("cat /run/bulkhead/denied.json"); !strings.Contains(got, "default: deny") || !strings.Contains(got, "bulkhead egress allow") {
		t.Errorf("the guest is told %s", got)
	}
	if got := h.Must("egress", "log", b.Name); !strings.Contains(got, "forbidden.example") {
		t.Errorf("the operator is told %s", got)
	}
	if got := h.Must("events", "--output", "json"); !strings.Contains(got, "egress.denied") {
		t.Error("no event was recorded")
	}
	if r := h.CLI("egress", "test", b.Name, "forbidden.example:443"); r.Code == 0 || !strings.Contains(r.Stdout, "default: deny") {
		t.Errorf("test says %s%s", r.Stdout, r.Stderr)
	}
	h.Must("egress", "allow", b.Name, "forbidden.example")
	h.Must("egress", "test", b.Name, "forbidden.example:443")
	if got := b.Sh("getent ahostsv4 forbidden.example"); !strings.Contains(got, "198.18.") {
		t.Errorf("after it was allowed it resolves to %s", got)
	}
	stand := b.Sh("getent ahostsv4 forbidden.example | head -1 | cut -d' ' -f1")
	b.Snapshot("kept")
	b.Rollback("kept")
	if again := b.Sh("getent ahostsv4 forbidden.example | head -1 | cut -d' ' -f1"); again != stand {
		t.Errorf("it stood for %s and stands for %s after a rollback", stand, again)
	}
	if got := h.Must("egress", "show", b.Name); !strings.Contains(got, "forbidden.example") {
		t.Errorf("the policy is gone after a rollback: %s", got)
	}
}

// A policy with a mistake is refused by line and field, and the one before
// stays.
func TestBadPolicies(t *testing.T) {
	h := host(t)
	b := h.Create("policies")
	var before, after client.Egress
	h.JSON(&before, "egress", "show", b.Name)
	for doc, want := range map[string]string{
		"version: 1\nfoo: 1\n": "line 2",
		"version: 1\nrules:\n  - {cidr: 10.0.0.0/40, ports: [1], action: allow}\n":                                                               "line 3",
		"version: 1\nrules:\n  - {name: a.example, ports: [0], action: allow}\n":                                                                 "0 is not a port",
		"version: 1\nrules:\n  - {name: a.*.example, action: allow}\n":                                                                           "line 3",
		"version: 1\nrules:\n  - {name: a.example, action: deny, limits: {upload: 1MB}}\n":                                                       "line 3",
		"version: 1\nrules:\n  - {name: a.example, action: allow, limits: {rate: 1}}\n  - {name: a.example, action: allow, limits: {rate: 2}}\n": "line 4: rules[1]: its limits contradict",
	} {
		if r := h.CLIWith(doc, "egress", "set", b.Name, "-"); r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("%q: exit %d, %s", doc, r.Code, r.Stderr)
		}
	}
	if h.JSON(&after, "egress", "show", b.Name); after.Policy != before.Policy {
		t.Errorf("the policy has changed:\n%s\nwas\n%s", after.Policy, before.Policy)
	}
}

// A destination that the policy says to ask about waits for the operator.
func TestAskedDestinationWaits(t *testing.T) {
	h := host(t)
	b := h.Create("asks")
	policy := "version: 1\ndefault: ask\n"
	if r := h.CLIWith(policy, "egress", "set", b.Name, "-"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	for _, tt := range []struct{ answer, want string }{{"reject", "rejected by the operator"}, {"approve", "resolve"}} {
		t.Run(tt.answer, func(t *testing.T) {
			said := make(chan harness.Result, 1)
			go func() { said <- b.Exec("curl", "-sS", "-m", "60", "http://unknown.invalid/") }()
			awaitPending(t, h, "unknown.invalid:80")
			h.Must("egress", tt.answer, b.Name, "unknown.invalid:80")
			// There is no such host: approved, it is not found, and that is said.
			if r := <-said; !strings.Contains(r.Stdout, tt.want) {
				t.Errorf("curl says %d: %s%s", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
	ask := func(name string, answer ...string) (said harness.Result) {
		done := make(chan harness.Result, 1)
		go func() { done <- b.Exec("curl", "-sS", "-m", "60", "http://"+name+"/") }()
		if len(answer) > 0 {
			awaitPending(t, h, name+":80")
			h.Must(append([]string{"egress", "approve", b.Name, name + ":80"}, answer...)...)
		}
		return <-done
	}
	ask("hour.invalid", "--for", "1h")
	if r := ask("hour.invalid"); !strings.Contains(r.Stdout, "resolve") {
		t.Errorf("within the hour curl says %+v", r)
	}
	h.Must("egress", "test", b.Name, "hour.invalid:80")
	for _, command := range []string{"egress show", "blast-radius"} {
		if said := h.Must(append(strings.Fields(command), b.Name)...); !strings.Contains(said, "hour.invalid:80") {
			t.Errorf("%s does not say what is approved of:\n%s", command, said)
		}
	}
	h.Must("egress", "reject", b.Name, "hour.invalid:80") // takes it back
	if r := h.CLI("egress", "test", b.Name, "hour.invalid:80"); r.Code != 1 || !strings.Contains(r.Stderr, "would wait for your answer") {
		t.Errorf("test of what is not approved of any more: %d, %s%s", r.Code, r.Stdout, r.Stderr)
	}
	ask("always.invalid", "--always")
	h.Must("egress", "test", b.Name, "always.invalid:80")
	h.Must("egress", "approve", b.Name, "late.invalid:80", "--always") // nobody waits any more, and it counts
	h.Must("egress", "test", b.Name, "late.invalid:80")
	done := make(chan harness.Result, 1)
	go func() { done <- b.Exec("curl", "-sS", "-m", "60", "http://rule.invalid/") }()
	awaitPending(t, h, "rule.invalid:80")
	h.Must("egress", "allow", b.Name, "rule.invalid") // answers who waits
	if r := <-done; !strings.Contains(r.Stdout, "resolve") {
		t.Errorf("allowed by a rule while it waits, curl says %+v", r)
	}
	if r := h.CLI("egress", "approve", b.Name, "unknown.invalid:80"); r.Code == 0 || !strings.Contains(r.Stderr, "nobody waits") {
		t.Errorf("approve what nobody waits for: %d, %s", r.Code, r.Stderr)
	}
}

func awaitPending(t *testing.T, h *harness.Host, destination string) {
	t.Helper()
	limit := time.After(harness.Patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var all []client.EgressQuestion
		h.JSON(&all, "egress", "pending")
		if len(all) == 1 && all[0].Destination == destination {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("nothing waits for %s: %+v", destination, all)
		}
	}
}
