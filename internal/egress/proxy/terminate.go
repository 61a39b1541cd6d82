package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// maxOuts bounds the connections to the host for one of the guest whose TLS
// ends here; HTTP/2 needs one of them.
const maxOuts = 100

// terminate hands the guest to what speaks TLS with it, and ends with that.
func (s *session) terminate(ctx context.Context, serve Terminator) {
	s.Opened = s.p.Clock()
	s.p.Record(s.Connection)
	guest := &replayed{TCPConn: s.guest, first: s.first}
	if err := serve(ctx, guest, s.another); err != nil {
		s.fail(refusal(err.Error()))
	}
	s.closeOuts()
	s.end(ctx)
}

// another dials the host once more. What goes over it counts as the
// connection's.
func (s *session) another(ctx context.Context) (net.Conn, error) {
	s.mu.Lock()
	many := len(s.outs) >= maxOuts
	s.mu.Unlock()
	if many {
		return nil, fmt.Errorf("%d connections to %s are open already", maxOuts, s.Dest)
	}
	if err := s.takeOne(); err != nil {
		return nil, err
	}
	out, addr, err := s.reach(ctx)
	if err != nil {
		s.giveOne()
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		reset(out)
		s.giveOne()
		return nil, errForbidden
	}
	if s.outs == nil {
		s.outs = map[*counted]bool{}
	}
	c := &counted{out, s}
	s.outs[c], s.Addr = true, addr
	return c, nil
}

// takeOne takes the descriptor of one more connection to the host.
func (s *session) takeOne() error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.p.take(1)
}

func (s *session) giveOne() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.give(1)
}

func (s *session) closeOuts() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.outs {
		c.Conn.Close()
		s.giveOne()
	}
	clear(s.outs)
}

// counted is a connection to the host whose bytes are accounted before they are
// moved.
type counted struct {
	net.Conn
	s *session
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		if limit := c.s.account(int64(n), &c.s.down); limit != nil {
			c.s.fail(limit)
			return 0, limit
		}
		c.s.down.Add(int64(n))
	}
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	if limit := c.s.account(int64(len(p)), &c.s.up); limit != nil {
		c.s.fail(limit)
		return 0, limit
	}
	n, err := c.Conn.Write(p)
	c.s.up.Add(int64(n))
	return n, err
}

func (c *counted) Close() error {
	c.s.mu.Lock()
	if c.s.outs[c] {
		delete(c.s.outs, c)
		c.s.giveOne()
	}
	c.s.mu.Unlock()
	err := c.Conn.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// replayed is the guest's connection with what it has said already.
type replayed struct {
	*net.TCPConn
	first []byte
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(p, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	return r.TCPConn.Read(p)
}
