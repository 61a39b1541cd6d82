package adversary_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon"
	"bulkhead/test/harness"
	"bulkhead/test/inside"
)

const egressPolicy = `version: 1
default: deny
rules:
  - {name: allowed.example, ports: [80, 443], action: allow}
  - {name: "*.allowed.example", ports: [80, 443], action: allow}
  - {name: rebound.example, action: allow}
  - {name: loopback.example, action: allow}
  - {name: private.example, action: allow}
  - {name: metadata.example, action: allow}
  - {name: mapped.example, action: allow}
  - {name: standin.example, action: allow}
  - {name: keyed.example, action: allow, secrets: [{name: key, header: "x-api-key: {}"}]}
`

const publicPolicy = `version: 1
use: [public]
rules:
  - {name: keyed.example, action: allow, secrets: [{name: key, header: "x-api-key: {}"}]}
`

// captivity is what a guest attacks that must reach nothing.
type captivity struct {
	w   *world
	h   *harness.Host
	own int
}

// An agent with root tries to reach what it must not. Nothing arrives outside,
// and each attempt is on record; with the policy "public" those that are
// legitimate then arrive.
func TestEgressAttacks(t *testing.T) {
	w := newWorld(t)
	s := &captivity{w: w, own: w.trap(t)}
	s.h = inside.Run(t, daemon.Daemon{Clock: time.Now, Out: w}, map[string]string{"egress": "none"}).Base()
	if r := s.h.CLIWith("0123456789abcdef\n", "secret", "set", "key"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	neighbour := s.h.Create("neighbour")
	neighbour.Sh(visitors)
	b := s.h.Create("captive")
	setPolicy(t, s.h, b.Name, egressPolicy)
	b.Sh("cat > /root/tools.py <<'EOF'\n" + tools + "EOF")
	b.Snapshot("fresh")

	s.arrives(t, b)
	for _, a := range egressAttacks(s.own) {
		t.Run(a.name, func(t *testing.T) { s.attack(t, b, a) })
	}
	t.Run("after a pause", func(t *testing.T) {
		s.h.Must("pause", b.Name)
		s.again(t, b)
	})
	t.Run("after a rollback", func(t *testing.T) {
		b.Rollback("fresh")
		s.again(t, b)
	})
	t.Run("in a fork", func(t *testing.T) {
		s.h.Must("fork", b.Name, "--name", "twin")
		defer s.h.CLI("rm", "-f", "twin")
		s.again(t, s.h.Box("twin"))
	})
	t.Run("with the policy public", func(t *testing.T) { s.public(t, b) })
	if got := neighbour.Sh("cat /root/visitors"); got != "" {
		t.Errorf("the neighbour was visited by %s", got)
	}
}

// visitors notes who comes to a port of a guest.
const visitors = `: > /root/visitors; systemd-run --quiet --collect python3 -c '
import socket
s = socket.create_server(("0.0.0.0", 7070))
while True:
    c, who = s.accept()
    print(who, file=open("/root/visitors", "a"), flush=True)
'
until ss -ltn | grep -q :7070; do sleep 0.1; done`

// arrives has what is allowed arrive: what attacks are told by works.
func (s *captivity) arrives(t *testing.T, b *harness.Box) {
	t.Run("what is allowed arrives", func(t *testing.T) {
		for script, want := range map[string]string{
			py("tcp('allowed.example', 80)"):                               "93.184.215.14:80",
			py("say(segments(records(hello('allowed.example'), 50), 70))"): "93.184.215.14:443",
			py("s = socket.create_connection(('allowed.example', 80))", // a WebSocket
				"s.sendall(b'GET /socket HTTP/1.1\\r\\nHost: allowed.example\\r\\nUpgrade: websocket\\r\\n\\r\\n')",
				"assert b' 101 ' in s.recv(200)", "s.sendall(b'bait')", "told(s.recv(100))"): "93.184.215.14:80",
			"curl -sS -m 20 http://allowed.example/ | grep -q bait && echo THROUGH; true": "93.184.215.14:80",
		} {
			before := len(s.w.reached())
			out := b.Exec("sh", "-c", script)
			if got := s.w.reached()[before:]; !strings.Contains(out.Stdout, "THROUGH") || !slices.Equal(got, []string{want}) {
				t.Errorf("%s: arrived %q\n%s%s", script, got, out.Stdout, out.Stderr)
			}
		}
	})
}

// attack makes one attempt.
func (s *captivity) attack(t *testing.T, b *harness.Box, a egressAttack) {
	before, trace := len(s.w.reached()), traces(t, s.h, b.Name)
	out := b.Exec("sh", "-c", a.script)
	if strings.Contains(out.Stdout, "THROUGH") {
		t.Errorf("it got through: %s", out.Stdout)
	}
	for _, got := range s.w.reached()[before:] {
		if got != a.may {
			t.Errorf("arrived outside: %s", got)
		}
	}
	if a.wrecks {
		defer b.Rollback("fresh")
	}
	if after := traces(t, s.h, b.Name); a.trace != nowhere && after[a.trace] <= trace[a.trace] {
		t.Errorf("no trace in %s: %v, %v\n%s%s", a.trace, trace, after, out.Stdout, out.Stderr)
	}
}

// again makes an attempt of each kind on a machine that has been through
// something; what is allowed still arrives.
func (s *captivity) again(t *testing.T, b *harness.Box) {
	some := []string{"an address", "a name that is not allowed", "a name that resolves to metadata", "UDP", "a forged source"}
	for _, a := range egressAttacks(s.own) {
		if slices.Contains(some, a.name) {
			t.Run(a.name, func(t *testing.T) { s.attack(t, b, a) })
		}
	}
	s.arrives(t, b)
}

// public has what is legitimate then arrive, and what leads to private networks
// still not.
func (s *captivity) public(t *testing.T, b *harness.Box) {
	setPolicy(t, s.h, b.Name, publicPolicy)
	for _, a := range egressAttacks(s.own) {
		if a.legit {
			t.Run(a.name, func(t *testing.T) {
				if out := b.Exec("sh", "-c", a.script); !strings.Contains(out.Stdout, "THROUGH") {
					t.Errorf("%s: %s%s", a.script, out.Stdout, out.Stderr)
				}
			})
		}
	}
	for _, a := range append(addressAttacks(s.own), resolvedAttacks()...) {
		if !a.legit && !a.wrecks {
			t.Run(a.name, func(t *testing.T) { s.attack(t, b, a) })
		}
	}
}

func setPolicy(t *testing.T, h *harness.Host, name, doc string) {
	t.Helper()
	if r := h.CLIWith(doc, "egress", "set", name, "-"); r.Code != 0 {
		t.Fatalf("set policy: %s", r.Stderr)
	}
}

// traces counts what is on record.
func traces(t *testing.T, h *harness.Host, name string) map[recorded]int {
	t.Helper()
	var e client.Egress
	h.JSON(&e, "egress", "show", name)
	n := map[recorded]int{}
	for _, d := range e.Denied {
		n[denied] += d.Count
	}
	for _, packets := range e.Dropped {
		n[dropped] += int(packets)
	}
	return n
}
