package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"bulkhead/internal/egress/sniff"
)

const (
	// portHTTP and portTLS are those on which nothing else is spoken.
	portHTTP, portTLS = 80, 443
	// sayLimit bounds how long a guest may take to say what it wants on these,
	// and how long it is answered before a refusal.
	sayLimit = 30 * time.Second
	// dialLimit bounds the way out.
	dialLimit = 30 * time.Second
	// piece is how many bytes are moved before they are accounted.
	piece = 1 << 20
	// meteredPiece is how many are moved where that has to be before.
	meteredPiece = 32 << 10
)

// session is one connection that is carried.
type session struct {
	Connection
	p         *Proxy
	guest     *net.TCPConn
	allowance Allowance // nil until it is admitted
	// unreached is set if it was allowed and failed on its way.
	unreached bool
	// first is what the guest has said and is still looked at; the first ahead
	// bytes of it were passed on already.
	first []byte
	ahead int

	up, down atomic.Int64
	answers  answers

	mu sync.Mutex
	// out leads to the host; guarded by mu, nil until it is dialled or if it
	// is in outs.
	out  net.Conn
	outs map[*counted]bool // guarded by mu; of a connection whose TLS ends here
	// why is the first reason for which it was cut; guarded by mu.
	why error
	// gone is set once it was cut; guarded by mu.
	gone bool
}

// fail cuts the connection for a reason.
func (s *session) fail(why error) {
	s.mu.Lock()
	if s.why == nil {
		s.why = why
	}
	s.mu.Unlock()
	s.cut()
}

// cut resets both ends.
func (s *session) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	reset(s.guest)
	if s.out != nil {
		reset(s.out)
	}
	for c := range s.outs {
		reset(c.Conn)
	}
}

// reset closes a connection so that the other end sees at once that it was
// cut.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Close()
}

// run carries the connection until both directions have ended.
func (s *session) run(ctx context.Context) {
	clientFirst := s.Dest.Name != "" && (s.Dest.Port == portHTTP || s.Dest.Port == portTLS)
	if clientFirst {
		if err := s.listen(); err != nil {
			s.refuse(err.Error())
			return
		}
		if serve := s.p.Terminate(s.Dest); serve != nil {
			s.terminate(ctx, serve)
			return
		}
	}
	if err := s.dial(ctx); err != nil {
		s.unreached = true
		s.refuse(err.Error())
		return
	}
	s.Opened = s.p.Clock()
	s.p.Record(s.Connection)
	var both sync.WaitGroup
	both.Go(func() {
		if err := s.carryUp(); err != nil {
			s.fail(err)
		}
	})
	both.Go(func() {
		if err := s.carryDown(); err != nil {
			s.fail(err)
		}
	})
	both.Wait()
	s.end(ctx)
}

func (s *session) end(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out != nil {
		s.out.Close()
	}
	switch {
	case ctx.Err() != nil:
		s.Reason = context.Cause(ctx).Error()
	case s.why != nil && errors.As(s.why, new(refusal)):
		s.Reason = s.why.Error()
	}
	s.Up, s.Down, s.Closed = s.up.Load(), s.down.Load(), s.p.Clock()
	s.p.Record(s.Connection)
}

// refusal is a reason that is not the network's.
type refusal string

func (r refusal) Error() string { return string(r) }

// listen waits until the guest has said what it wants, and checks that before
// anybody is dialled.
func (s *session) listen() error {
	s.guest.SetReadDeadline(time.Now().Add(sayLimit))
	defer s.guest.SetReadDeadline(time.Time{})
	if err := s.more(); err != nil {
		return refusal("nothing was said")
	}
	if s.Dest.Port == portTLS && !sniff.IsTLS(s.first) {
		return refusal("only TLS may be spoken on port 443")
	}
	if sniff.IsTLS(s.first) {
		return s.checkTLS()
	}
	_, err := s.head()
	return err
}

// more reads more of what the guest says into first.
func (s *session) more() error { return s.read(4 << 10) }

// read reads at most so many bytes more.
func (s *session) read(most int) error {
	buf := make([]byte, most)
	n, err := s.guest.Read(buf)
	s.first = append(s.first, buf[:n]...)
	if n > 0 {
		return nil
	}
	return err
}

// checkTLS reads a ClientHello, which must say the name.
func (s *session) checkTLS() error {
	for {
		h, err := sniff.ClientHello(s.first)
		if errors.Is(err, sniff.ErrMore) {
			if len(s.first) > 2*sniff.MaxHello {
				return refusal("the beginning of TLS is too long")
			}
			if err := s.more(); err != nil {
				return refusal("the beginning of TLS is cut off")
			}
			continue
		}
		switch {
		case err != nil:
			return refusal("TLS: " + err.Error())
		case h.Hidden:
			return refusal("TLS hides its name (encrypted ClientHello)")
		case h.Name == "":
			return refusal("TLS says no name")
		case h.Name != sniff.Name(s.Dest.Name):
			return refusal(fmt.Sprintf("TLS says another name: %.100q", h.Name))
		}
		return nil
	}
}

// head reads the head of a request, which must be for the name.
func (s *session) head() (sniff.Head, error) {
	for {
		h, err := sniff.RequestHead(s.first)
		if errors.Is(err, sniff.ErrMore) {
			if !s.maybeHTTP() {
				return h, refusal("what is said is no HTTP")
			}
			if err := s.more(); err != nil {
				return h, refusal("the request is cut off")
			}
			continue
		}
		if err != nil {
			return h, refusal("HTTP: " + err.Error())
		}
		if h.Host != sniff.Name(s.Dest.Name) {
			return h, refusal(fmt.Sprintf("the request is for another host: %.100q", h.Host))
		}
		return h, nil
	}
}

func (s *session) dial(ctx context.Context) error {
	out, addr, err := s.reach(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out, s.Addr = out, addr
	if s.gone { // it was cut while it was dialled
		reset(out)
		return errForbidden
	}
	return nil
}

// reach connects to the host.
func (s *session) reach(ctx context.Context) (net.Conn, netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	if s.Dest.Name == "" {
		out, err := s.p.DialAddr(ctx, s.Dest.Addr, s.Dest.Port)
		return out, s.Dest.Addr, err
	}
	return s.p.Dial(ctx, s.Dest.Name, s.Dest.Port)
}

// carryUp carries what the guest says.
func (s *session) carryUp() error {
	if s.Dest.Name == "" { // an address says nothing that could be checked
		return s.move(s.out, s.guest, &s.up)
	}
	if len(s.first) == 0 {
		if err := s.more(); errors.Is(err, io.EOF) {
			return halfClose(s.out)
		} else if err != nil {
			return err
		}
		if sniff.IsTLS(s.first) {
			if err := s.checkTLS(); err != nil {
				return err
			}
		}
	}
	if sniff.IsTLS(s.first) {
		return s.carryRaw()
	}
	http := s.Dest.Port == portHTTP
	if !http {
		var err error
		if http, err = s.firstLine(); err != nil {
			return err
		}
	}
	if http {
		return s.carryHTTP()
	}
	return s.carryRaw()
}

// firstLine reads the first line of what the guest says where that may be
// anything, and reports whether it is one of HTTP. Whatever is spoken, nobody
// waits for the end of a line: it is passed on as it comes. For a request
// without its end no server does anything.
func (s *session) firstLine() (http bool, err error) {
	for {
		if s.ahead == 0 {
			// Empty lines before a request are nothing (RFC 9112, section 2.2).
			if err := s.pass(len(s.first) - len(bytes.TrimLeft(s.first, "\r\n"))); err != nil {
				return false, err
			}
		}
		if sniff.EndsLine(s.first) {
			return sniff.NamesHTTP(s.first), nil
		}
		if err := s.passAhead(); err != nil {
			return false, err
		}
		// Whoever has no lines may stay here for long, with this much memory.
		if err := s.read(512); errors.Is(err, io.EOF) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
}

// carryRaw carries what the guest says as it is.
func (s *session) carryRaw() error {
	if err := s.pass(len(s.first)); err != nil {
		return err
	}
	return s.move(s.out, s.guest, &s.up)
}

// maybeHTTP reports whether what was said can still become a request.
func (s *session) maybeHTTP() bool { return !sniff.EndsLine(s.first) || sniff.NamesHTTP(s.first) }

// pass passes on n bytes of what the guest has said, less what is ahead.
func (s *session) pass(n int) error {
	err := s.send(s.first[min(s.ahead, n):n])
	if s.first, s.ahead = s.first[n:], max(0, s.ahead-n); len(s.first) == 0 {
		s.first = nil // whoever is carried raw needs no memory
	}
	return err
}

// passAhead passes on all that the guest has said and keeps it in first.
func (s *session) passAhead() error {
	err := s.send(s.first[s.ahead:])
	s.ahead = len(s.first)
	return err
}

// send accounts bytes of the guest and passes them on.
func (s *session) send(b []byte) error {
	if err := s.account(int64(len(b)), &s.up); err != nil {
		return err
	}
	sent, err := s.out.Write(b)
	s.up.Add(int64(sent))
	return err
}

// move moves bytes until their end, in pieces, and then closes that direction.
// Between two TCP connections the kernel moves them (splice(2)), unless they
// have to be counted before.
func (s *session) move(to, from net.Conn, count *atomic.Int64) error {
	var buf []byte
	for {
		var err error
		if s.allowance.Metered() {
			if buf == nil {
				buf = make([]byte, meteredPiece)
			}
			err = s.moveMetered(to, from, count, buf)
		} else {
			var n int64
			n, err = io.CopyN(to, from, piece)
			count.Add(n)
			if limit := s.account(n, count); limit != nil {
				return limit
			}
		}
		if errors.Is(err, io.EOF) {
			return halfClose(to)
		}
		if err != nil {
			return err
		}
	}
}

// moveMetered moves what comes next, once it is accounted.
func (s *session) moveMetered(to io.Writer, from io.Reader, count *atomic.Int64, buf []byte) error {
	n, err := from.Read(buf)
	if n > 0 {
		if limit := s.account(int64(n), count); limit != nil {
			return limit
		}
		sent, failed := to.Write(buf[:n])
		count.Add(int64(sent))
		if failed != nil {
			return failed
		}
	}
	return err
}

// account accounts bytes of one direction.
func (s *session) account(n int64, direction *atomic.Int64) error {
	up, down := n, int64(0)
	if direction == &s.down {
		up, down = 0, n
	}
	if err := s.allowance.Spend(up, down); err != nil {
		return refusal(err.Error())
	}
	return nil
}

// halfClose tells the other end that no more comes. One that is gone has been
// told.
func halfClose(c net.Conn) error {
	if t, ok := c.(interface{ CloseWrite() error }); ok {
		t.CloseWrite()
	}
	return nil
}
