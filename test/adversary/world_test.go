package adversary_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// world is what is outside of the host in these tests: a namespace that has
// every address there is, and a server on each port that an attack names. The
// daemon resolves and dials there. Nothing of it leaves the machine.
type world struct {
	names map[string][]string
	ns    *os.File

	mu      sync.Mutex
	arrived []string // address:port, in order; guarded by mu
	// asked counts how often a name was resolved; guarded by mu.
	asked map[string]int
}

// The ports of the world on which something listens.
var (
	worldTCP = []int{22, 53, 80, 443, 8080}
	worldUDP = []int{9, 53, 443, 4242}
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{asked: map[string]int{}, names: map[string][]string{
		"allowed.example":   {"93.184.215.14"},
		"other.example":     {"93.184.215.15"},
		"forbidden.example": {"93.184.215.16"},
		"keyed.example":     {"93.184.215.17"},
		"rebound.example":   {"93.184.215.18"}, // and then a private address
		"loopback.example":  {"127.0.0.1"},
		"private.example":   {"10.1.2.3"},
		"metadata.example":  {"169.254.169.254"},
		"mapped.example":    {"::ffff:192.168.0.1"},
		"standin.example":   {"198.18.0.1"},
	}}
	onThread(t, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		var err error
		if w.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		return everywhere()
	})
	t.Cleanup(func() { w.ns.Close() })
	for _, port := range worldTCP {
		w.listen(t, port)
	}
	for _, port := range worldUDP {
		w.hear(t, port)
	}
	return w
}

// everywhere gives a namespace every address of IPv4, on lo.
func everywhere() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{
		LinkIndex: lo.Attrs().Index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST,
		Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
	})
}

// onThread runs f on a thread that is ended after it, whatever f did to that.
func onThread(t *testing.T, f func() error) {
	t.Helper()
	if err := threaded(f); err != nil {
		t.Fatal(err)
	}
}

func threaded(f func() error) error {
	err := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		err <- f()
	}()
	return <-err
}

// in runs f in the world.
func (w *world) in(f func() error) error {
	return threaded(func() error {
		if err := unix.Setns(int(w.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// listen answers whatever it is sent as a web server would.
func (w *world) listen(t *testing.T, port int) {
	t.Helper()
	var l net.Listener
	err := w.in(func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.note(c.LocalAddr().String())
			go answer(c)
		}
	}()
}

// answer says "bait", redirects whoever asks for /away, and agrees to speak
// something else with whoever asks for /socket.
func answer(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute)) // turns a hang into an end
	b := make([]byte, 4096)
	n, _ := c.Read(b)
	const ends = "Content-Length: 5\r\nConnection: close\r\n\r\nbait\n"
	path := strings.TrimPrefix(string(b[:n]), "GET ")
	switch {
	case strings.HasPrefix(path, "/away"):
		io.WriteString(c, "HTTP/1.1 302 Found\r\nLocation: http://forbidden.example/\r\n"+ends)
	case strings.HasPrefix(path, "/socket"):
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(c, c)
	default:
		io.WriteString(c, "HTTP/1.1 200 OK\r\n"+ends)
	}
}

// hear notes packets.
func (w *world) hear(t *testing.T, port int) {
	t.Helper()
	var c net.PacketConn
	err := w.in(func() (err error) {
		c, err = net.ListenPacket("udp4", fmt.Sprintf("0.0.0.0:%d", port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		for b := make([]byte, 2048); ; {
			if _, _, err := c.ReadFrom(b); err != nil {
				return
			}
			w.note(fmt.Sprintf("UDP port %d", port))
		}
	}()
}

func (w *world) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.arrived = append(w.arrived, what)
}

// reached lists what has arrived.
func (w *world) reached() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.arrived)
}

// Resolve implements egress.Out.
func (w *world) Resolve(_ context.Context, name string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[name]++
	if name == "rebound.example" && w.asked[name] > 1 {
		return []netip.Addr{netip.MustParseAddr("10.1.2.3")}, nil
	}
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
func (w *world) Dial(ctx context.Context, to netip.AddrPort) (conn net.Conn, err error) {
	err = w.in(func() (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "tcp4", to.String())
		return err
	})
	return conn, err
}

// trap is a port of the host's own loopback. It notes who comes.
func (w *world) trap(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.note("the host's " + c.LocalAddr().String())
			go answer(c)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}
