package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/egress/proxy"
	"bulkhead/test/leak"
)

// patience turns a hang into a failure; nothing is measured by it.
const patience = 30 * time.Second

// bench is a proxy with a guest on one side and a host on the other.
type bench struct {
	t     *testing.T
	proxy *proxy.Proxy
	in    net.Listener // of the proxy
	host  net.Listener

	mu      sync.Mutex
	dest    proxy.Destination // of the next connection
	allow   bool
	dialled int
	records []proxy.Connection
	budget  int64 // bytes up that Spend allows
	metered bool  // whether they are counted before
	full    bool  // whether Admit refuses
	// terminate ends TLS of the next connection, unless it is nil.
	terminate proxy.Terminator
	// admitted is how many Admit has let in and are not out.
	admitted int
}

func newBench(t *testing.T, port uint16) *bench {
	t.Helper()
	return newBenchIn(t, port, proxy.NewRoom(1<<20))
}

func newBenchIn(t *testing.T, port uint16, room *proxy.Room) *bench {
	t.Helper()
	leak.Check(t)
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	b := &bench{t: t, in: listen(), host: listen(), allow: true, budget: 1 << 40}
	b.dest = proxy.Destination{Name: "a.example", Addr: netip.MustParseAddr("198.18.0.1"), Port: port}
	dial := func(ctx context.Context) (net.Conn, error) {
		b.mu.Lock()
		b.dialled++
		b.mu.Unlock()
		var d net.Dialer
		return d.DialContext(ctx, "tcp", b.host.Addr().String())
	}
	b.proxy = &proxy.Proxy{
		Name: func(a netip.Addr) (string, bool) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if a == b.dest.Addr {
				return b.dest.Name, b.dest.Name != ""
			}
			return "", false
		},
		Decide: func(context.Context, proxy.Destination) proxy.Verdict {
			b.mu.Lock()
			defer b.mu.Unlock()
			return proxy.Verdict{Allow: b.allow, Rule: "rule 1: of the test"}
		},
		Forbids: func(proxy.Destination) bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return !b.allow
		},
		Dial: func(ctx context.Context, _ string, _ uint16) (net.Conn, netip.Addr, error) {
			c, err := dial(ctx)
			return c, netip.MustParseAddr("93.184.215.14"), err
		},
		DialAddr: func(ctx context.Context, _ netip.Addr, _ uint16) (net.Conn, error) { return dial(ctx) },
		Terminate: func(proxy.Destination) proxy.Terminator {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.terminate
		},
		Original: func(net.Conn) (netip.AddrPort, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return netip.AddrPortFrom(b.dest.Addr, b.dest.Port), nil
		},
		Admit: func(proxy.Destination) (proxy.Allowance, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.full {
				return nil, errors.New("too many")
			}
			b.admitted++
			return b, nil
		},
		Record: func(c proxy.Connection) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.records = append(b.records, c)
		},
		MaxConns: 1000, Room: room, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.proxy.Serve(ctx, b.in) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
	return b
}

// Metered, Spend and Leave are the allowance of all its connections together.
func (b *bench) Metered() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.metered
}

func (b *bench) Spend(up, _ int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.budget -= up; b.budget < 0 {
		return errors.New("too much")
	}
	return nil
}

func (b *bench) Leave() { b.set(func() { b.admitted-- }) }

// set changes what the functions answer.
func (b *bench) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// connect is the guest's.
func (b *bench) connect() *net.TCPConn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.in.Addr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// reset connects and waits for what comes; it may come while it connects.
func (b *bench) reset() error {
	b.t.Helper()
	c, err := net.Dial("tcp", b.in.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	_, err = c.Read(make([]byte, 1))
	return err
}

// accept is the host's.
func (b *bench) accept() *net.TCPConn {
	b.t.Helper()
	b.host.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	c, err := b.host.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func (b *bench) say(c net.Conn, text string) {
	b.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) hear(c net.Conn, want string) {
	b.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		b.t.Fatalf("heard %q, %v, want %q", got[:n], err, want)
	}
}

func (b *bench) last() proxy.Connection {
	b.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		b.mu.Lock()
		n := len(b.records)
		var c proxy.Connection
		if n > 0 {
			c = b.records[n-1]
		}
		b.mu.Unlock()
		if n > 0 && (c.Opened.IsZero() || !c.Closed.IsZero()) {
			return c
		}
		<-time.After(time.Millisecond)
	}
	b.t.Fatal("nothing is recorded")
	return proxy.Connection{}
}

func TestBytesGoBothWays(t *testing.T) {
	for name, port := range map[string]uint16{"a port of its own": 5432, "an address": 1} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, port)
			if name == "an address" {
				b.set(func() { b.dest.Name = "" })
			}
			guest := b.connect()
			host := b.accept() // before the guest has said anything
			b.say(host, "welcome")
			b.hear(guest, "welcome")
			b.say(guest, "EHLO me\r\n")
			b.hear(host, "EHLO me\r\n")
			guest.CloseWrite()
			if rest, err := io.ReadAll(host); err != nil || len(rest) > 0 {
				t.Errorf("after the half close: %q, %v", rest, err)
			}
			b.say(host, "bye")
			host.Close()
			b.hear(guest, "bye")
			if c := b.last(); c.Up != 9 || c.Down != 10 || c.Reason != "" || !c.Verdict.Allow {
				t.Errorf("recorded %+v", c)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Run("it is reset", func(t *testing.T) {
		b := newBench(t, 443)
		b.set(func() { b.allow = false })
		if err := b.reset(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("the guest sees %v", err)
		}
		if c := b.last(); c.Verdict.Allow || c.Dest.String() != "a.example:443" {
			t.Errorf("recorded %+v", c)
		}
	})
	t.Run("plain HTTP is told why", func(t *testing.T) {
		b := newBench(t, 80)
		b.set(func() { b.allow = false })
		guest := b.connect()
		b.say(guest, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
		answer, err := io.ReadAll(guest)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 403 ") || !strings.Contains(string(answer), "rule 1: of the test") || !strings.Contains(string(answer), "bulkhead egress allow") {
			t.Errorf("answer %q, %v", answer, err)
		}
	})
}

// Whoever speaks without ends of lines is heard at once, also if it looks like a
// request.
func TestNobodyWaitsForALine(t *testing.T) {
	b := newBench(t, 6000)
	guest := b.connect()
	host := b.accept()
	for _, word := range []string{"PING", " all", "\r\nGET", " / HTTP/1.1\r\nHost: b.example\r\n\r\n"} {
		b.say(guest, word)
		b.hear(host, word)
	}
	guest.CloseWrite()
	if rest, err := io.ReadAll(host); err != nil || len(rest) > 0 {
		t.Errorf("after the half close: %q, %v", rest, err)
	}
	host.Close()
	if c := b.last(); c.Up != 45 || c.Reason != "" {
		t.Errorf("recorded %+v", c)
	}
}

// A request that comes byte by byte is checked before its host is passed on.
func TestRequestInPieces(t *testing.T) {
	b := newBench(t, 6000)
	guest := b.connect()
	host := b.accept()
	const line = "GET / HTTP/1.1\r"
	for _, c := range line {
		b.say(guest, string(c))
		b.hear(host, string(c))
	}
	b.say(guest, "\nHost: b.example\r\n\r\n")
	if rest, err := io.ReadAll(host); err == nil && len(rest) > 0 {
		t.Errorf("arrived %q", rest)
	}
	if c := b.last(); !strings.Contains(c.Reason, "another host") || c.Up != int64(len(line)) {
		t.Errorf("recorded %+v", c)
	}
}

// What is refused although a rule allows the name: nobody is dialled, or what
// was forbidden does not arrive.
func TestForeignNames(t *testing.T) {
	const good = "GET /good HTTP/1.1\r\nHost: a.example\r\n\r\n"
	for _, tt := range []struct {
		name, says string
		port       uint16
		arrives    string
	}{
		{"another host", "GET / HTTP/1.1\r\nHost: b.example\r\n\r\n", 80, ""},
		{"another host after a good one", good + "GET / HTTP/1.1\r\nHost: b.example\r\n\r\n", 80, good},
		{"another host behind a body", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: b.example\r\n\r\n", 80,
			"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc"},
		{"another host behind chunks", "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: b.example\r\n\r\n", 80,
			"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
		{"another host on another port", "GET / HTTP/1.1\r\nHost: b.example\r\n\r\n", 8080, ""},
		{"a change of protocol with a body", "PUT / HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n", 8080, ""},
		{"a change of protocol later", good + "GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\n\r\n", 8080, good},
		{"another host behind empty lines", "\r\n\r\nGET / HTTP/1.1\r\nHost: b.example\r\n\r\n", 8080, "\r\n\r\n"},
		{"another host by a method of its own", "x-y / HTTP/1.1\r\nHost: b.example\r\n\r\n", 8080, ""},
		{"another host in another writing", "GET\t/\thttp/1.1\r\nHost: b.example\r\n\r\n", 8080, ""},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 8080, ""},
		{"what is no HTTP on its port", "HELO\r\n", 80, ""},
		{"what is no TLS on its port", good, 443, ""},
		{"TLS that is broken", "\x16\x03\x01\x00\x00", 443, ""},
		{"TLS that is broken on another port", "\x16\x03\x01\x00\x00", 8443, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, tt.port)
			arrived := make(chan string, 1)
			go func() {
				c, err := b.host.Accept()
				if err != nil {
					arrived <- ""
					return
				}
				defer c.Close()
				all, _ := io.ReadAll(c)
				arrived <- string(all)
			}()
			guest := b.connect()
			b.say(guest, tt.says)
			io.ReadAll(guest) // an answer or a reset
			c := b.last()
			if c.Reason == "" {
				t.Errorf("recorded without a reason: %+v", c)
			}
			b.host.Close()
			if got := <-arrived; got != tt.arrives && !strings.HasPrefix(tt.arrives, got) {
				t.Errorf("arrived %q, want %q", got, tt.arrives)
			}
		})
	}
}

func TestTLSWithTheNamePasses(t *testing.T) {
	b := newBench(t, 443)
	guest := b.connect()
	go tls.Client(guest, &tls.Config{ServerName: "a.example", InsecureSkipVerify: true}).Handshake()
	host := b.accept()
	if first, err := bufio.NewReader(host).Peek(3); err != nil || first[0] != 22 {
		t.Errorf("the host hears %v, %v", first, err)
	}
}

func TestHTTPPasses(t *testing.T) {
	b := newBench(t, 80)
	guest := b.connect()
	const one = "GET /1 HTTP/1.1\r\nHost: a.example\r\n\r\n"
	b.say(guest, one)
	host := b.accept()
	b.hear(host, one)
	b.say(host, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	b.hear(guest, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	two := fmt.Sprintf("PUT /2 HTTP/1.1\r\nHost: A.EXAMPLE:80\r\nContent-Length: %d\r\n\r\n%s", 100_000, strings.Repeat("x", 100_000))
	go io.WriteString(guest, two+one)
	b.hear(host, two+one)
}

func TestANewPolicyCuts(t *testing.T) {
	b := newBench(t, 5432)
	guest := b.connect()
	host := b.accept()
	b.say(guest, "x")
	b.hear(host, "x")
	b.set(func() { b.allow = false })
	b.proxy.Recheck()
	if _, err := guest.Read(make([]byte, 1)); err == nil {
		t.Error("the guest can still read")
	}
	if c := b.last(); !strings.Contains(c.Reason, "policy") {
		t.Errorf("recorded %+v", c)
	}
}

func TestABudgetCuts(t *testing.T) {
	b := newBench(t, 5432)
	b.set(func() { b.budget = 3 << 20 })
	guest := b.connect()
	host := b.accept()
	go io.Copy(io.Discard, host)
	_, err := io.CopyN(guest, strings.NewReader(strings.Repeat("x", 64<<20)), 64<<20)
	if err == nil {
		t.Error("all was sent")
	}
	if c := b.last(); c.Reason != "too much" || c.Up > 8<<20 {
		t.Errorf("recorded %+v", c)
	}
}

// With a budget, nothing is moved that is not in it, on however many
// connections.
func TestAMeteredBudgetIsExact(t *testing.T) {
	b := newBench(t, 5432)
	const budget = 100 << 10
	b.set(func() { b.budget, b.metered = budget, true })
	var got atomic.Int64
	var all sync.WaitGroup
	for range 10 {
		guest := b.connect()
		host := b.accept()
		all.Go(func() {
			n, _ := io.Copy(io.Discard, host)
			got.Add(n)
		})
		all.Go(func() { io.CopyN(guest, strings.NewReader(strings.Repeat("x", 1<<20)), 1<<20) })
	}
	all.Wait()
	if n := got.Load(); n > budget {
		t.Errorf("%d bytes arrived, of %d at most", n, budget)
	}
}

func TestWhatIsNotAdmittedIsNotDialled(t *testing.T) {
	b := newBench(t, 5432)
	b.set(func() { b.full = true })
	if err := b.reset(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("it sees %v", err)
	}
	if c := b.last(); c.Reason != "too many" || !c.Opened.IsZero() {
		t.Errorf("recorded %+v", c)
	}
	b.set(func() { b.full = false })
	guest := b.connect()
	host := b.accept()
	guest.Close()
	host.Close()
	b.last()
	for left := 1; left > 0; {
		b.set(func() { left = b.admitted })
	}
}

// However many connections there are, they take no more than the room, and the
// last of it is for those who have few.
func TestRoom(t *testing.T) {
	const most, fair = 4000, 4000 / 4 * 3 / 6 // 6 descriptors each
	room := proxy.NewRoom(most)
	b, modest := newBenchIn(t, 5432, room), newBenchIn(t, 5432, room)
	for range fair {
		b.connect()
		b.accept()
	}
	if err := b.reset(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("one more sees %v", err)
	}
	if c := b.last(); !strings.Contains(c.Reason, "as this host can") {
		t.Errorf("recorded %+v", c)
	}
	for range 100 {
		modest.connect()
		modest.accept()
	}
	if err := modest.reset(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("when it has many too it sees %v", err)
	}
}

// full is a listener for which there is no descriptor at first.
type full struct {
	net.Listener
	accepted bool // by one goroutine
}

func (l *full) Accept() (net.Conn, error) {
	if !l.accepted {
		l.accepted = true
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// A host that had no descriptor left goes on once it has.
func TestAcceptsAgain(t *testing.T) {
	b := newBench(t, 5432)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.proxy.Serve(ctx, &full{Listener: l}) }()
	guest, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	host := b.accept()
	b.say(host, "welcome")
	b.hear(guest, "welcome")
	guest.Close()
	host.Close()
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestAThousandConnections(t *testing.T) {
	b := newBench(t, 5432)
	var guests, hosts []*net.TCPConn
	for range 1000 {
		guests = append(guests, b.connect())
		hosts = append(hosts, b.accept())
	}
	for _, g := range guests {
		b.say(g, "x")
	}
	for _, h := range hosts {
		b.hear(h, "x")
	}
	if err := b.reset(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("one more sees %v", err)
	}
	for i := range guests {
		guests[i].Close()
		hosts[i].Close()
	}
}

// What ends TLS in the place of the host is handed all that was said, counts
// what it moves, and is cut like any other.
func TestTerminated(t *testing.T) {
	b := newBench(t, 443)
	var said []byte
	b.set(func() {
		b.budget = 200
		b.terminate = func(ctx context.Context, guest net.Conn, dial func(context.Context) (net.Conn, error)) error {
			said = make([]byte, 3)
			if _, err := io.ReadFull(guest, said); err != nil {
				return err
			}
			out, err := dial(ctx)
			if err != nil {
				return err
			}
			defer out.Close()
			for {
				if _, err := out.Write(make([]byte, 150)); err != nil {
					return nil
				}
			}
		}
	})
	guest := b.connect()
	go tls.Client(guest, &tls.Config{ServerName: "a.example", InsecureSkipVerify: true}).Handshake()
	host := b.accept()
	got, _ := io.ReadAll(host)
	if len(got) > 150 {
		t.Errorf("%d bytes arrive beyond the budget", len(got))
	}
	if c := b.last(); c.Reason != "too much" || c.Up != 150 || !c.Addr.IsValid() {
		t.Errorf("recorded %+v", c)
	}
	if said[0] != 22 { // handshake (RFC 8446, 5.1)
		t.Errorf("it is handed %v", said)
	}
}

func TestANewPolicyCutsTheTerminated(t *testing.T) {
	b := newBench(t, 443)
	b.set(func() {
		b.terminate = func(ctx context.Context, guest net.Conn, dial func(context.Context) (net.Conn, error)) error {
			out, err := dial(ctx)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, out) // the host says nothing
			return err
		}
	})
	guest := b.connect()
	go tls.Client(guest, &tls.Config{ServerName: "a.example", InsecureSkipVerify: true}).Handshake()
	b.accept()
	b.set(func() { b.allow = false })
	b.proxy.Recheck()
	if c := b.last(); !strings.Contains(c.Reason, "policy") {
		t.Errorf("recorded %+v", c)
	}
}
