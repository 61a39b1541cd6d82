package names

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
)

const (
	// keep is how long a guest may keep an answer, in seconds; refused is for
	// refusals, which an operator may lift at any time.
	keep, keepRefused = 60, 5
	// rate is how many questions a second are answered on average, burst how
	// many at once: a package manager asks tens at its start. Above that there
	// is no answer: names are a way out for bytes too.
	rate, burst = 50, 200
	// newRate and newBurst are for names that get a stand-in: each is written
	// down.
	newRate, newBurst = 5, 200
	// maxStreams bounds connections, idle how long one may be silent.
	maxStreams = 16
	idle       = 10 * time.Second
)

// Query is a question that was refused. It has no name if it could not be read,
// or was not for there being too many.
type Query struct{ Name, Type, Reason string }

// Server answers a guest.
type Server struct {
	Table *Table
	// MayResolve says whether a name is answered.
	MayResolve func(name string) bool
	// Refused is called for each question that is not, Added for each name
	// that got a stand-in.
	Refused func(Query)
	Added   func()
	Clock   func() time.Time
	Log     *slog.Logger

	mu        sync.Mutex
	questions bucket // guarded by mu
	additions bucket // guarded by mu
}

// bucket holds tokens, which come back with time.
type bucket struct {
	tokens float64
	last   time.Time
}

func (b *bucket) take(now time.Time, rate, burst float64) bool {
	if b.last.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+rate*max(0, now.Sub(b.last).Seconds()))
	}
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// ServePacket answers packets until ctx ends.
func (s *Server) ServePacket(ctx context.Context, c net.PacketConn) error {
	return s.serve(ctx, &dns.Server{PacketConn: c, UDPSize: dns.MinMsgSize * 2})
}

// ServeStream answers connections until ctx ends.
func (s *Server) ServeStream(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, &dns.Server{
		Listener: netutil.LimitListener(l, maxStreams), ReadTimeout: idle, WriteTimeout: idle, MaxTCPQueries: 100,
		IdleTimeout: func() time.Duration { return idle },
	})
}

func (s *Server) serve(ctx context.Context, srv *dns.Server) error {
	srv.Handler = dns.HandlerFunc(s.answer)
	srv.MsgInvalidFunc = func([]byte, error) { s.Refused(Query{Reason: "what is no question is not answered"}) }
	stop := context.AfterFunc(ctx, func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		srv.ShutdownContext(now)
		if srv.PacketConn != nil {
			srv.PacketConn.Close()
		}
		if srv.Listener != nil {
			srv.Listener.Close()
		}
	})
	defer stop()
	err := srv.ActivateAndServe()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// answer answers one message.
func (s *Server) answer(w dns.ResponseWriter, q *dns.Msg) {
	if !s.take(&s.questions, rate, burst) {
		s.Refused(Query{Reason: fmt.Sprintf("more than %d questions a second are not answered", rate)})
		return
	}
	if q.Response || q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 {
		s.Refused(Query{Reason: "what is no question is not answered"})
		return
	}
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable, m.Compress = true, true
	s.fill(m, q.Question[0])
	if err := w.WriteMsg(m); err != nil && !errors.Is(err, net.ErrClosed) {
		s.Log.Debug("name question is not answered", "err", err)
	}
}

func (s *Server) fill(m *dns.Msg, q dns.Question) {
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	head := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: keep}
	refuse := func(reason string) {
		m.Rcode = dns.RcodeNameError
		m.Ns = []dns.RR{authority(keepRefused)}
		s.Refused(Query{name, dns.TypeToString[q.Qtype], reason})
	}
	switch {
	case q.Qclass != dns.ClassINET:
		refuse("not a question about the Internet")
	case q.Qtype == dns.TypePTR:
		if of, ok := s.Table.Name(reversed(name)); ok {
			m.Answer = []dns.RR{&dns.PTR{Hdr: head, Ptr: dns.Fqdn(of)}}
			return
		}
		m.Rcode = dns.RcodeNameError
		m.Ns = []dns.RR{authority(keep)}
	case q.Qtype == dns.TypeSRV && strings.HasPrefix(name, "_"):
		// Clients look for another server first and go on without.
		m.Rcode = dns.RcodeNameError
		m.Ns = []dns.RR{authority(keep)}
	case !s.MayResolve(name):
		refuse("")
	case q.Qtype == dns.TypeA:
		if !s.Table.Has(name) && !s.take(&s.additions, newRate, newBurst) {
			refuse(fmt.Sprintf("more than %d new names a second", newRate))
			m.Rcode = dns.RcodeServerFailure // later there may be room
			return
		}
		a, added, err := s.Table.Address(name)
		if err != nil {
			refuse(err.Error())
			return
		}
		if added {
			s.Added()
		}
		m.Answer = []dns.RR{&dns.A{Hdr: head, A: a.AsSlice()}}
	case q.Qtype == dns.TypeAAAA, q.Qtype == dns.TypeHTTPS, q.Qtype == dns.TypeSVCB:
		m.Ns = []dns.RR{authority(keep)} // there is the name, but nothing of that kind
	default:
		refuse("only addresses are answered")
	}
}

// authority says how long there being nothing may be kept (RFC 2308).
func authority(seconds uint32) dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: seconds},
		Ns:  "bulkhead.", Mbox: "bulkhead.", Serial: 1, Refresh: seconds, Retry: seconds, Expire: seconds, Minttl: seconds,
	}
}

// reversed reads "1.0.18.198.in-addr.arpa".
func reversed(name string) netip.Addr {
	labels := strings.Split(strings.TrimSuffix(name, ".in-addr.arpa"), ".")
	if len(labels) != 4 {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
	if err != nil {
		return netip.Addr{}
	}
	return a
}

// take takes a token.
func (s *Server) take(b *bucket, rate, burst float64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return b.take(s.Clock(), rate, burst)
}
