package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"bulkhead/internal/egress/sniff"
)

// carryHTTP carries requests one after the other, each of which must be for
// the name. The answers go their own way, but for the one to a request for
// another protocol, which has to be the first: of a later one it would not be
// clear which answer is its own.
func (s *session) carryHTTP() error {
	for count := 0; ; count++ {
		if len(s.first) == 0 {
			if err := s.more(); errors.Is(err, io.EOF) {
				return halfClose(s.out)
			} else if err != nil {
				return err
			}
		}
		h, err := s.head()
		if err != nil {
			return err
		}
		switch {
		case h.Upgrade == websocket && count > 0:
			return refusal("a request for another protocol is not the first of its connection")
		case h.Upgrade == websocket:
			if changed, err := s.change(h); changed {
				return s.carryRaw()
			} else if err != nil {
				return err
			}
			continue
		case h.Upgrade != "":
			s.first = append(sniff.WithoutUpgrade(s.first[:h.Size]), s.first[h.Size:]...)
			continue
		}
		if err := s.pass(h.Size); err != nil {
			return err
		}
		if err := s.body(h.Body); err != nil {
			return err
		}
	}
}

// body passes on the body of a request.
func (s *session) body(length int64) error {
	if length >= 0 {
		return s.passMany(length)
	}
	for {
		size, follow, err := sniff.ChunkHead(s.first)
		if errors.Is(err, sniff.ErrMore) {
			if err := s.more(); err != nil {
				return refusal("the request's body is cut off")
			}
			continue
		}
		if err != nil {
			return refusal("HTTP: " + err.Error())
		}
		// Each chunk ends in an empty line, the last is nothing but that.
		if err := s.passMany(int64(size) + follow); err != nil {
			return err
		}
		for len(s.first) < 2 {
			if err := s.more(); err != nil {
				return refusal("the request's body is cut off")
			}
		}
		if !bytes.HasPrefix(s.first, []byte("\r\n")) {
			return refusal("HTTP: a chunk ends in another way, or trailers follow")
		}
		if err := s.pass(2); err != nil {
			return err
		}
		if follow == 0 {
			return nil
		}
	}
}

// passMany passes on n bytes, of which some may be to come.
func (s *session) passMany(n int64) error {
	for n > 0 {
		if len(s.first) == 0 {
			if err := s.more(); err != nil {
				return refusal("the request's body is cut off")
			}
		}
		some := int(min(n, int64(len(s.first))))
		if err := s.pass(some); err != nil {
			return err
		}
		n -= int64(some)
	}
	return nil
}

// refuse ends a connection that nobody was dialled for. The reason is for what
// a rule allows.
func (s *session) refuse(reason string) {
	s.Reason = reason
	s.p.Record(s.Connection)
	if s.Dest.Port != portHTTP || !s.explain() {
		reset(s.guest)
	}
}

// explain answers a plain request with why it is refused. It reports whether
// there was one.
func (s *session) explain() bool {
	deadline := time.Now().Add(sayLimit)
	s.guest.SetDeadline(deadline)
	for {
		_, err := sniff.RequestHead(s.first)
		if err == nil {
			break
		}
		if !s.maybeHTTP() {
			return false
		}
		if !errors.Is(err, sniff.ErrMore) {
			break
		}
		if s.more() != nil {
			return false
		}
	}
	why := s.Verdict.Rule
	if s.Reason != "" {
		why = s.Reason
	}
	status := http.StatusForbidden
	body := fmt.Sprintf("This machine may not talk to %s: %s.\n"+
		"To have it allowed, ask the operator to run: bulkhead egress allow SANDBOX %s\n", s.Dest, why, s.Dest)
	if s.unreached {
		status = http.StatusBadGateway
		body = fmt.Sprintf("This machine may talk to %s, but it is not reached: %s.\n", s.Dest, why)
	}
	fmt.Fprintf(s.guest, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), len(body), body)
	s.guest.CloseWrite()
	drain(s.guest)
	return true
}

// drain reads what is still on its way: a connection that is closed before
// would be reset, and the answer lost.
func drain(c *net.TCPConn) {
	const most = 256 << 10
	c.SetReadDeadline(time.Now().Add(time.Second))
	io.CopyN(io.Discard, c, most)
}
