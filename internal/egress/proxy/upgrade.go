package proxy

import (
	"bytes"
	"errors"
	"net"
	"os"
	"time"

	"bulkhead/internal/egress/sniff"
)

// websocket is the one protocol that a connection may change to (RFC 6455):
// with it, it stays one to this host. Others are HTTP/2, in which requests are
// for other hosts again, and proposals that clients make just in case. Whoever
// is between two ends does not pass those on (RFC 9110, section 7.8).
const websocket = "websocket"

// answerLimit bounds how long a host may think about a change of protocol, as
// the guest is not listened to meanwhile.
const answerLimit = 30 * time.Second

// answers is how the way down tells the way up what the host says to a change
// of protocol.
type answers struct {
	// waiting is closed once the way down is ready to look at an answer, ended
	// once there is no way down any more.
	waiting, ended chan struct{}
	// known is closed once the others are set.
	known   chan struct{}
	changed bool
	failed  error
}

func newAnswers() answers {
	return answers{waiting: make(chan struct{}), ended: make(chan struct{}), known: make(chan struct{})}
}

// change passes on a request for another protocol and waits for its answer. It
// reports whether the protocol has changed. If not, requests may follow.
func (s *session) change(h sniff.Head) (changed bool, err error) {
	if h.Body != 0 {
		return false, refusal("a request for another protocol has a body")
	}
	s.out.SetReadDeadline(time.Unix(1, 0)) // interrupts the way down
	select {
	case <-s.answers.waiting:
	case <-s.answers.ended:
		return false, net.ErrClosed
	}
	if err := s.pass(h.Size); err != nil {
		return false, err
	}
	<-s.answers.known
	return s.answers.changed, s.answers.failed
}

// carryDown carries what the host says. It looks at that only where the guest
// has asked for another protocol.
func (s *session) carryDown() error {
	defer close(s.answers.ended)
	err := s.move(s.guest, s.out, &s.down)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	s.out.SetReadDeadline(time.Now().Add(answerLimit))
	close(s.answers.waiting)
	s.answers.changed, s.answers.failed = s.passAnswer()
	close(s.answers.known)
	if s.answers.failed != nil {
		return s.answers.failed
	}
	s.out.SetReadDeadline(time.Time{})
	return s.move(s.guest, s.out, &s.down)
}

// passAnswer passes on the answer to a request for another protocol, and
// reports whether it was yes.
func (s *session) passAnswer() (changed bool, err error) {
	var answer []byte
	for buf := make([]byte, 4<<10); ; {
		n, err := s.out.Read(buf)
		if n == 0 && err != nil {
			return false, err
		}
		answer = append(answer, buf[:n]...)
		if limit := s.account(int64(n), &s.down); limit != nil {
			return false, limit
		}
		sent, err := s.guest.Write(buf[:n])
		s.down.Add(int64(sent))
		if err != nil {
			return false, err
		}
		for {
			status, to, size, err := sniff.AnswerHead(answer)
			if errors.Is(err, sniff.ErrMore) {
				break
			}
			if err != nil || status >= 200 || status == 101 {
				return err == nil && status == 101 && to == websocket, nil
			}
			answer = bytes.Clone(answer[size:]) // one that comes before the answer
		}
	}
}
