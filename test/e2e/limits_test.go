package e2e_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon"
	"bulkhead/test/harness"
	"bulkhead/test/inside"
)

// outside is the world in tests that must not leave the machine: every name
// leads to one listener, which repeats what it is told.
type outside struct {
	net.Listener
	heard atomic.Int64 // bytes
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &outside{Listener: l}
	go o.serve()
	t.Cleanup(func() { l.Close() })
	return o
}

func (o *outside) serve() {
	for {
		c, err := o.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 4<<10)
			for {
				n, err := c.Read(buf)
				o.heard.Add(int64(n))
				if _, e := c.Write(buf[:n]); err != nil || e != nil {
					return
				}
			}
		}()
	}
}

// Resolve implements egress.Out.
func (o *outside) Resolve(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("93.184.215.14")}, nil
}

// Dial implements egress.Out.
func (o *outside) Dial(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", o.Addr().String())
}

// A guest gets as far as its limits and no further.
func TestLimits(t *testing.T) {
	o := newOutside(t)
	h := inside.Run(t, daemon.Daemon{Clock: time.Now, Out: o}, map[string]string{"egress": "none"}).Base()
	t.Run("bytes of a rule", func(t *testing.T) { testBytes(t, h, o) })
	t.Run("connections that last", func(t *testing.T) { testLasting(t, h) })
	t.Run("connections of a sandbox", func(t *testing.T) { testConnections(t, h) })
}

func testBytes(t *testing.T, h *harness.Host, o *outside) {
	b := h.Create("talker")
	policy := "version: 1\nrules:\n  - {name: '*.example', ports: [7000], action: allow, limits: {upload: 1MB}}\n"
	if r := h.CLIWith(policy, "egress", "set", b.Name, "-"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	// Both names are of one rule: they share what it may.
	for _, name := range []string{"one.example", "two.example"} {
		b.Sh(`python3 -c '
import socket
try:
    c = socket.create_connection(("` + name + `", 7000))
    for i in range(40):
        c.sendall(b"x" * 65536)
        c.recv(65536)
except OSError:
    pass
'`)
	}
	const limit = 1_000_000
	if got := o.heard.Load(); got > limit || got < limit-64<<10 {
		t.Errorf("%d bytes arrived, of %d that may", got, limit)
	}
	var e client.Egress
	h.JSON(&e, "egress", "show", b.Name)
	// What was on its way when a connection was reset is counted and does not arrive.
	if len(e.Budgets) != 1 || e.Budgets[0].UpBytes < o.heard.Load() || e.Budgets[0].UpBytes > limit {
		t.Errorf("budgets %+v, %d bytes arrived", e.Budgets, o.heard.Load())
	}
	if got := h.Must("egress", "log", b.Name); !strings.Contains(got, "upload") {
		t.Errorf("the operator is told %s", got)
	}
	if got := h.Must("events", "--sandbox", b.Name, "--kind", "egress.denied"); !strings.Contains(got, "two.example:7000") {
		t.Errorf("events are %s", got)
	}
	h.Must("events", "verify")
}

// lasting talks slowly over a connection, closes its own half and still hears the
// rest; then it waits on another one for what becomes of it.
const lasting = `import socket, time
c = socket.create_connection(("slow.example", 7000))
for word in (b"one ", b"two ", b"three"):
    c.sendall(word)
    time.sleep(2)
c.shutdown(socket.SHUT_WR)
heard = b"".join(iter(lambda: c.recv(100), b""))
c = socket.create_connection(("slow.example", 7000))
c.sendall(b"x")
c.recv(1)
print(heard.decode(), file=open("/root/heard", "w"), flush=True)
try:
    end = c.recv(1)
except OSError as e:
    end = type(e).__name__
print(end, file=open("/root/end", "w"), flush=True)
`

// A connection lasts as long as both ends and the policy want it to.
func testLasting(t *testing.T, h *harness.Host) {
	b := h.Create("lasting")
	h.Must("egress", "allow", b.Name, "slow.example:7000")
	b.Sh("cat > /root/lasting.py <<'EOF'\n" + lasting + "EOF")
	b.Sh("systemd-run --quiet --collect python3 /root/lasting.py")
	if got := b.Sh("until test -s /root/heard; do sleep 0.1; done; cat /root/heard"); got != "one two three" {
		t.Errorf("after its own half was closed it hears %q", got)
	}
	h.Must("egress", "deny", b.Name, "slow.example")
	if got := b.Sh("until test -s /root/end; do sleep 0.1; done; cat /root/end"); got != "ConnectionResetError" {
		t.Errorf("with a policy that forbids it, it ends with %s", got)
	}
	got := h.Must("events", "--sandbox", b.Name, "--kind", "egress", "--output", "json")
	for _, want := range []string{`"egress.opened"`, `"verdict":"allow"`, `"address":"93.184.215.14"`, `"up":"13"`, "a new policy forbids it"} {
		if !strings.Contains(strings.ReplaceAll(got, `": "`, `":"`), want) {
			t.Errorf("%s is not in the events %s", want, got)
		}
	}
}

// resident is the memory of this process, the daemon in it, in bytes.
func resident(t *testing.T) int64 {
	t.Helper()
	n, err := harness.Resident(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// crowd opens connections, talks over each of them while all are open, and
// says how many more there may be.
const crowd = `import resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
at = (socket.gethostbyname("crowd.example"), 7000)
all = [socket.create_connection(at) for i in range(%d)]
for turn in range(2):
    for i, c in enumerate(all):
        c.sendall(b"%%06d" %% i)
    for i, c in enumerate(all):
        assert c.recv(6) == b"%%06d" %% i, i
try:
    c = socket.create_connection(at)
    c.sendall(b"more")
    print("got", c.recv(4).decode())
except OSError as e:
    print("refused")
`

func testConnections(t *testing.T, h *harness.Host) {
	const most = 1000
	b := h.Create("crowd")
	h.Must("egress", "allow", b.Name, "crowd.example:7000")
	before := resident(t)
	b.Sh("cat > /root/crowd.py <<'EOF'\n" + fmt.Sprintf(crowd, most) + "EOF")
	if got := b.Sh("python3 /root/crowd.py"); got != "refused" {
		t.Errorf("connection %d: %s", most+1, got)
	}
	if got := h.Must("egress", "log", b.Name); !strings.Contains(got, "connections are open already") {
		t.Errorf("the operator is told %s", got)
	}
	// The test's own end of each is in it: a goroutine and a buffer.
	grown := resident(t) - before
	if grown > 40<<20 {
		t.Errorf("%d connections took %d bytes of memory", most, grown)
	}
	t.Logf("%d bytes of memory before, %d more after", before, grown)
}
