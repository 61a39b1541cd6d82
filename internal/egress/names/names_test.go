package names_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/internal/egress/names"
	"bulkhead/test/leak"

	"github.com/miekg/dns"
)

func TestTable(t *testing.T) {
	table := names.NewTable()
	for i := range 300 {
		name := fmt.Sprintf("n%d.example", i)
		a, added, err := table.Address(name)
		if err != nil || !added || !netip.MustParsePrefix("198.18.0.0/15").Contains(a) {
			t.Fatalf("%s: %s, %t, %v", name, a, added, err)
		}
		if got, ok := table.Name(a); !ok || got != name {
			t.Fatalf("%s stands for %q, %t", a, got, ok)
		}
	}
	first, added, err := table.Address("n0.example")
	if err != nil || added || first.String() != "198.18.0.1" {
		t.Errorf("again: %s, %t, %v", first, added, err)
	}
	for _, a := range []string{"198.18.0.0", "198.18.1.45", "198.19.255.255", "10.0.0.1", "::1", "::ffff:198.18.0.1"} {
		if name, ok := table.Name(netip.MustParseAddr(a)); ok {
			t.Errorf("%s stands for %q", a, name)
		}
	}
	t.Run("it is kept", func(t *testing.T) {
		b, err := json.Marshal(table)
		if err != nil {
			t.Fatal(err)
		}
		again := names.NewTable()
		if err := json.Unmarshal(b, again); err != nil {
			t.Fatal(err)
		}
		if a, added, err := again.Address("n299.example"); err != nil || added || a.String() != "198.18.1.44" {
			t.Errorf("%s, %t, %v", a, added, err)
		}
	})
	for _, bad := range []string{`{}`, `["a","a"]`, `[""]`, `["a"`} {
		if err := json.Unmarshal([]byte(bad), names.NewTable()); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	t.Run("it is full some time", func(t *testing.T) {
		table := names.NewTable()
		var err error
		n := 0
		for ; err == nil && n < 1<<17; n++ {
			_, _, err = table.Address(fmt.Sprint(n))
		}
		if !errors.Is(err, names.ErrFull) {
			t.Errorf("after %d: %v", n, err)
		}
	})
}

// bench is a server with a client.
type bench struct {
	server  *names.Server
	address string

	mu      sync.Mutex
	now     time.Time
	refused []names.Query
	added   int
}

// listen returns sockets of one port. Another program may have the port that
// the first one got for streams.
func listen(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 100 {
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		streams, err := net.Listen("tcp", packets.LocalAddr().String())
		if err == nil {
			return packets, streams
		}
		packets.Close()
	}
	t.Fatal("no port is free for both")
	return nil, nil
}

func newBench(t *testing.T) *bench {
	t.Helper()
	leak.Check(t)
	b := &bench{now: time.Unix(1000, 0)}
	b.server = &names.Server{
		Table: names.NewTable(), MayResolve: func(name string) bool { return strings.HasSuffix(name, "allowed.example") },
		Refused: func(q names.Query) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.refused = append(b.refused, q)
		},
		Added: func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.added++
		},
		Clock: func() time.Time {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.now
		},
		Log: slog.New(slog.DiscardHandler),
	}
	packets, streams := listen(t)
	b.address = packets.LocalAddr().String()
	ctx, stop := context.WithCancel(context.Background())
	var both sync.WaitGroup
	both.Go(func() { b.server.ServePacket(ctx, packets) })
	both.Go(func() { b.server.ServeStream(ctx, streams) })
	t.Cleanup(func() {
		stop()
		both.Wait()
	})
	return b
}

// answers waits for an answer, or for a refusal to give one.
func (b *bench) answers(c net.Conn) bool {
	for {
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // to look again
		if _, err := c.Read(make([]byte, 600)); err == nil {
			return true
		}
		if b.told() > 0 {
			return false
		}
	}
}

// told is how many refusals there were.
func (b *bench) told() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.refused)
}

func (b *bench) ask(t *testing.T, network, name string, kind uint16) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: 20 * time.Second}
	a, _, err := c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), kind), b.address)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAnswers(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		name    string
		kind    uint16
		code    int
		answers string // of the first
		refused bool
	}{
		{"allowed.example", dns.TypeA, dns.RcodeSuccess, "198.18.0.1", false},
		{"ALLOWED.example", dns.TypeA, dns.RcodeSuccess, "198.18.0.1", false},
		{"www.allowed.example", dns.TypeA, dns.RcodeSuccess, "198.18.0.2", false},
		{"allowed.example", dns.TypeAAAA, dns.RcodeSuccess, "", false},
		{"allowed.example", dns.TypeHTTPS, dns.RcodeSuccess, "", false},
		{"allowed.example", dns.TypeSVCB, dns.RcodeSuccess, "", false},
		{"1.0.18.198.in-addr.arpa", dns.TypePTR, dns.RcodeSuccess, "allowed.example.", false},
		{"9.9.18.198.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, "", false},
		{"4.3.2.1.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, "", false},
		{"_http._tcp.allowed.example", dns.TypeSRV, dns.RcodeNameError, "", false},
		{"forbidden.example", dns.TypeA, dns.RcodeNameError, "", true},
		{"forbidden.example", dns.TypeAAAA, dns.RcodeNameError, "", true},
		{"allowed.example", dns.TypeTXT, dns.RcodeNameError, "", true},
		{"allowed.example", dns.TypeNULL, dns.RcodeNameError, "", true},
		{"allowed.example", dns.TypeANY, dns.RcodeNameError, "", true},
		{"allowed.example", dns.TypeMX, dns.RcodeNameError, "", true},
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(tt.name+" "+dns.TypeToString[tt.kind]+" by "+network, func(t *testing.T) {
				before := b.told()
				m := b.ask(t, network, tt.name, tt.kind)
				got := ""
				if len(m.Answer) > 0 {
					got = m.Answer[0].String()
				}
				if m.Rcode != tt.code || (tt.answers == "") != (got == "") || !strings.HasSuffix(got, tt.answers) {
					t.Errorf("code %d, answer %q", m.Rcode, got)
				}
				if len(m.Answer) == 0 && len(m.Ns) != 1 {
					t.Errorf("it does not say how long that holds: %v", m.Ns)
				}
				if refused := b.told() > before; refused != tt.refused {
					t.Errorf("refused: %t", refused)
				}
			})
		}
	}
	if b.added != 2 {
		t.Errorf("%d names were new", b.added)
	}
}

// Too many questions are not answered, until time has passed.
func TestRate(t *testing.T) {
	b := newBench(t)
	c, err := net.Dial("udp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	q, err := new(dns.Msg).SetQuestion("allowed.example.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; n < 1000; n++ {
		if _, err := c.Write(q); err != nil {
			t.Fatal(err)
		}
		if !b.answers(c) {
			break
		}
	}
	if n != 200 {
		t.Errorf("%d were answered", n)
	}
	b.mu.Lock()
	if len(b.refused) != 1 || b.refused[0].Name != "" || b.refused[0].Reason == "" {
		t.Errorf("it is told of %v", b.refused)
	}
	b.now = b.now.Add(time.Second)
	b.mu.Unlock()
	b.ask(t, "udp", "allowed.example", dns.TypeA)
}

// New names are few, so that writing them down stays cheap.
func TestNewNamesAreFew(t *testing.T) {
	b := newBench(t)
	codes := map[int]int{}
	for i := range 300 {
		if i%100 == 0 { // there are enough questions
			b.mu.Lock()
			b.now = b.now.Add(2 * time.Second)
			b.mu.Unlock()
		}
		codes[b.ask(t, "udp", fmt.Sprintf("n%d.allowed.example", i), dns.TypeA).Rcode]++
	}
	if codes[dns.RcodeSuccess] != 220 || codes[dns.RcodeServerFailure] != 80 {
		t.Errorf("codes %v", codes)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, kind := range []uint16{dns.TypeA, dns.TypePTR, dns.TypeTXT, dns.TypeSRV} {
		b, err := new(dns.Msg).SetQuestion("a.allowed.example.", kind).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	s := &names.Server{
		Table: names.NewTable(), MayResolve: func(string) bool { return true },
		Refused: func(names.Query) {}, Added: func() {}, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q := new(dns.Msg)
		if q.Unpack(b) != nil || len(q.Question) != 1 {
			return
		}
		m := new(dns.Msg).SetReply(q)
		names.Fill(s, m, q.Question[0])
		out, err := m.Pack()
		if err != nil {
			return // a name that cannot be written down again
		}
		if len(out) > 1232 || len(m.Answer) > 1 {
			t.Errorf("%d bytes, %v", len(out), m.Answer)
		}
	})
}
