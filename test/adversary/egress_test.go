package adversary_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon"
	"bulkhead/test/harness"
	"bulkhead/test/inside"
)

// world is what is outside of the host in these tests: names and addresses,
// behind all of which sits one bait. Nothing of it leaves the machine.
type world struct {
	names map[string][]string
	bait  net.Listener

	mu     sync.Mutex
	dialed []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	bait, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{bait: bait, names: map[string][]string{
		"allowed.example":   {"93.184.215.14"},
		"other.example":     {"93.184.215.15"},
		"forbidden.example": {"93.184.215.16"},
		"loopback.example":  {"127.0.0.1"},
		"private.example":   {"10.1.2.3"},
		"metadata.example":  {"169.254.169.254"},
		"mapped.example":    {"::ffff:192.168.0.1"},
		"standin.example":   {"198.18.0.1"},
	}}
	go w.serve()
	t.Cleanup(func() { bait.Close() })
	return w
}

// serve answers whatever it is sent as a web server would.
func (w *world) serve() {
	for {
		c, err := w.bait.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Minute)) // turns a hang into an end
			c.Read(make([]byte, 4096))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nbait\n")
		}()
	}
}

// Resolve implements egress.Out.
func (w *world) Resolve(_ context.Context, name string) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, a := range w.names[name] {
		all = append(all, netip.MustParseAddr(a))
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no such host: %s", name)
	}
	return all, nil
}

// Dial implements egress.Out.
func (w *world) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	w.mu.Lock()
	w.dialed = append(w.dialed, to.String())
	w.mu.Unlock()
	var d net.Dialer
	return d.DialContext(ctx, "tcp", w.bait.Addr().String())
}

func (w *world) reached() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string{}, w.dialed...)
}

const egressPolicy = `version: 1
default: deny
rules:
  - {name: allowed.example, ports: [80, 443], action: allow}
  - {name: loopback.example, action: allow}
  - {name: private.example, action: allow}
  - {name: metadata.example, action: allow}
  - {name: mapped.example, action: allow}
  - {name: standin.example, action: allow}
`

// py makes a script that Python runs in the guest as root. It must not print
// "THROUGH" unless what it sent was answered.
func py(lines ...string) string {
	return "timeout 20 python3 - <<'EOF'\nimport socket, struct, ssl\nsocket.setdefaulttimeout(5)\n" +
		"def tcp(host, port, send=b'GET / HTTP/1.1\\r\\nHost: %s\\r\\n\\r\\n'):\n" +
		"    s = socket.create_connection((host, port))\n" +
		"    s.sendall(send % host.encode() if b'%s' in send else send)\n" +
		"    got = s.recv(100)\n" +
		"    print('THROUGH' if b'bait' in got or b'200 OK' in got else 'answer %r' % got[:60])\n" +
		strings.Join(lines, "\n") + "\nEOF"
}

// recorded says where an attempt must have left a trace.
type recorded string

// The traces.
const (
	denied  recorded = "denied"  // in the list of refusals
	dropped recorded = "dropped" // in the counters of packets
	nowhere recorded = "nowhere" // it never left the guest
)

// An agent with root tries to reach what it must not. Nothing arrives outside,
// and each attempt is on record.
func TestEgressAttacks(t *testing.T) {
	w := newWorld(t)
	h := inside.Run(t, daemon.Daemon{Clock: time.Now, Out: w}, map[string]string{"egress": "none"}).Base()
	b := h.Create("captive")
	setPolicy(t, h, b.Name, egressPolicy)
	b.Snapshot("fresh")

	t.Run("what is allowed arrives", func(t *testing.T) {
		if out := b.Exec("sh", "-c", py("tcp('allowed.example', 80)")); !strings.Contains(out.Stdout, "THROUGH") {
			t.Fatalf("%s%s", out.Stdout, out.Stderr)
		}
		if got := w.reached(); len(got) != 1 || got[0] != "93.184.215.14:80" {
			t.Errorf("dialed %q", got)
		}
	})
	for _, a := range egressAttacks() {
		t.Run(a.name, func(t *testing.T) {
			before, trace := len(w.reached()), traces(t, h, b.Name)
			out := b.Exec("sh", "-c", a.script)
			if strings.Contains(out.Stdout, "THROUGH") {
				t.Errorf("it got through: %s", out.Stdout)
			}
			if got := w.reached()[before:]; len(got) > 0 {
				t.Errorf("arrived outside: %q", got)
			}
			if a.wrecks {
				defer b.Rollback("fresh")
			}
			if after := traces(t, h, b.Name); a.trace != nowhere && after[a.trace] <= trace[a.trace] {
				t.Errorf("no trace in %s: %v, %v\n%s%s", a.trace, trace, after, out.Stdout, out.Stderr)
			}
		})
	}
	t.Run("afterwards what is allowed still arrives", func(t *testing.T) {
		if out := b.Exec("sh", "-c", py("tcp('allowed.example', 80)")); !strings.Contains(out.Stdout, "THROUGH") {
			t.Errorf("%s%s", out.Stdout, out.Stderr)
		}
	})
	t.Run("with the policy public what is legitimate arrives", func(t *testing.T) {
		h.Must("egress", "set", b.Name, "public")
		for _, script := range []string{
			py("tcp('forbidden.example', 80)"), py("tcp('93.184.215.99', 80)"), py("tcp('other.example', 8080)"),
		} {
			if out := b.Exec("sh", "-c", script); !strings.Contains(out.Stdout, "THROUGH") {
				t.Errorf("%s: %s%s", script, out.Stdout, out.Stderr)
			}
		}
		before := len(w.reached())
		b.Exec("sh", "-c", py("tcp('169.254.169.254', 80)"))
		b.Exec("sh", "-c", py("tcp('10.1.2.3', 80)"))
		if got := w.reached()[before:]; len(got) > 0 {
			t.Errorf("arrived outside: %q", got)
		}
	})
}

type egressAttack struct {
	name, script string
	trace        recorded
	// wrecks is set if the guest has no network afterwards.
	wrecks bool
}

func egressAttacks() []egressAttack {
	return []egressAttack{
		{"an address", py("tcp('93.184.215.14', 80)"), denied, false},
		{"a name that is not allowed", py("tcp('forbidden.example', 80)"), denied, false},
		{"a port that is not allowed", py("tcp('allowed.example', 8080)"), denied, false},
		{"the gateway", py("tcp('10.11.0.1', 22)"), denied, false},
		{"the gateway's own ports", py("tcp('10.11.0.1', 1)"), denied, false},
		{"the metadata service", py("tcp('169.254.169.254', 80)"), denied, false},
		{"a name that resolves to the host's loopback", py("tcp('loopback.example', 80)"), denied, false},
		{"a name that resolves to a private address", py("tcp('private.example', 80)"), denied, false},
		{"a name that resolves to metadata", py("tcp('metadata.example', 80)"), denied, false},
		{"a private address in IPv6's clothes", py("tcp('mapped.example', 80)"), denied, false},
		{"a name that resolves to a stand-in", py("tcp('standin.example', 80)"), denied, false},
		{"a stand-in that stands for nothing", py("tcp('198.18.99.99', 80)"), denied, false},
		{"another machine's address", py("tcp('10.11.0.6', 22)"), denied, false},
		{"IPv6", py("tcp('2606:2800:21f:cb07:6820:80da:af6b:8b2c', 80)"), nowhere, false},
		{"UDP", py("s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
			"s.sendto(b'x', ('93.184.215.14', 4242))", "print(s.recv(1))"), dropped, false},
		{"QUIC", py("s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
			"s.sendto(b'\\xc0' + b'x' * 1200, (socket.gethostbyname('allowed.example'), 443))", "print(s.recv(1))"), dropped, false},
		{"ping", py("s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
			"s.sendto(b'\\x08\\x00\\xf7\\xff\\x00\\x00\\x00\\x00', ('93.184.215.14', 0))"), dropped, false},
		{"a protocol of its own", py("s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)",
			"s.sendto(b'out', ('93.184.215.14', 0))"), dropped, false},
		{"a forged source", py("s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)",
			"h = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 28, 1, 0, 64, 17, 0, socket.inet_aton('10.11.0.1'), socket.inet_aton('93.184.215.14'))",
			"s.sendto(h + struct.pack('!HHHH', 53, 53, 8, 0), ('93.184.215.14', 0))"), dropped, false},
		{"frames of its own", py("s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "s.bind(('eth0', 0))",
			"h = lambda sum: struct.pack('!BBHHHBBH4s4s', 0x45, 0, 28, 1, 0, 64, 17, sum, socket.inet_aton('10.11.0.2'), socket.inet_aton('93.184.215.14'))",
			"n = sum(struct.unpack('!10H', h(0)))", "n = ~((n & 0xffff) + (n >> 16)) & 0xffff",
			"gateway = open('/proc/net/arp').read().split('10.11.0.1 ')[1].split()[2]",
			"s.send(bytes.fromhex(gateway.replace(':', '')) + b'\\x52\\x54\\x00\\x00\\x00\\x99' + b'\\x08\\x00' + h(n) + struct.pack('!HHHH', 53, 9, 8, 0))"), dropped, false},
		{"another server for names", py("s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
			question("forbidden.example", 1), "s.sendto(q, ('8.8.8.8', 53))", verdict), denied, false},
		{"another server for names by TCP", py("s = socket.create_connection(('8.8.8.8', 53))",
			question("forbidden.example", 1), "s.sendall(struct.pack('!H', len(q)) + q)", "s.recv(2)", verdict), denied, false},
		{"bytes in a name", py("s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
			question(strings.Repeat("61", 31)+".tunnel.example", 1), "s.sendto(q, ('10.11.0.1', 53))", verdict), denied, false},
		{"bytes in a text record", py("s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
			question("allowed.example", 16), "s.sendto(q, ('10.11.0.1', 53))", verdict), denied, false},
		{"a forbidden name in the request", py("tcp('allowed.example', 80, b'GET / HTTP/1.1\\r\\nHost: forbidden.example\\r\\n\\r\\n')"), denied, false},
		{"a forbidden name in the second request", py("tcp('allowed.example', 80, b'GET / HTTP/1.1\\r\\nHost: forbidden.example\\r\\n\\r\\n' * 2)"), denied, false},
		{"two names in one request", py("tcp('allowed.example', 80, b'GET / HTTP/1.1\\r\\nHost: allowed.example\\r\\nHost: forbidden.example\\r\\n\\r\\n')"), denied, false},
		{"a forbidden name in the request's target", py("tcp('allowed.example', 80, b'GET http://forbidden.example/ HTTP/1.1\\r\\nHost: allowed.example\\r\\n\\r\\n')"), denied, false},
		{"a tunnel through a proxy", py("tcp('allowed.example', 80, b'CONNECT forbidden.example:443 HTTP/1.1\\r\\nHost: forbidden.example:443\\r\\n\\r\\n')"), denied, false},
		{"a forbidden name in TLS", py(handshake("forbidden.example")), denied, false},
		{"no name in TLS", py(handshake("")), denied, false},
		{"another address for itself", "ip addr add 10.11.0.77/30 dev eth0; " + py(
			"s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "s.bind(('10.11.0.77', 0))",
			"s.sendto(b'x', ('93.184.215.14', 53))") + "", dropped, true},
		{"another MAC for itself", "ip link set eth0 address 52:54:00:00:00:77; " + py("tcp('allowed.example', 80)") +
			"; true", dropped, true},
		{"a bridge", "ip link add br0 type bridge && ip link set br0 up; ip link set eth0 master br0; " +
			py("tcp('93.184.215.14', 80)") + "; true", nowhere, true},
		{"another way out", "ip route add 1.2.3.0/24 via 10.11.0.2; " + py("tcp('1.2.3.4', 80)") + "; true", nowhere, true},
	}
}

// question makes q a question for names.
func question(name string, kind int) string {
	return fmt.Sprintf("q = b'\\x12\\x34\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00' + b''.join(bytes([len(l)]) + l for l in b'%s'.split(b'.')) + struct.pack('!BHH', 0, %d, 1)", name, kind)
}

// verdict reads an answer and tells whether it has any.
const verdict = "a = s.recv(600)\nprint('THROUGH' if struct.unpack('!H', a[6:8])[0] else 'refused')"

// handshake begins TLS with a name of its own at an allowed one.
func handshake(name string) string {
	sni := "None"
	if name != "" {
		sni = "'" + name + "'"
	}
	return "c = ssl._create_unverified_context()\ns = c.wrap_socket(socket.create_connection(('allowed.example', 443)), server_hostname=" + sni + ")"
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
