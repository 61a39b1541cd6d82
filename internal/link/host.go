package link

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// resetEvery is how often the host asks for a session until the guest
// answers. A guest that boots has nobody at the port for a while.
const resetEvery = 100 * time.Millisecond

// Session is the host's side of a session.
type Session struct {
	mux *yamux.Session
	// life ends with the session.
	life context.Context
}

// Dial begins a session over conn, which it owns from then on, and returns
// when the guest has acknowledged it. It gives up when ctx ends, and with
// ErrVersion if the guest acknowledges another version.
func Dial(ctx context.Context, conn net.Conn) (*Session, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	in := newFrames(conn)
	err := shake(conn, in)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("begin session: %w", err)
	}
	s := &stream{in: in, out: conn, closer: conn}
	mux, err := yamux.Client(s, settings())
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("begin session: %w", err)
	}
	life, end := context.WithCancelCause(context.Background())
	go func() { // ends with the session, see guard: the guest opens nothing
		_, err := mux.Accept()
		if errors.Is(err, yamux.ErrSessionShutdown) {
			err = context.Canceled // by Close
		}
		end(err)
	}()
	return &Session{mux: mux, life: life}, nil
}

// shake sends resets until the acknowledgement of this very session arrives.
func shake(conn net.Conn, in *frames) error {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce) // never fails: crypto/rand ends the program instead
	acked := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() { resetUntil(conn, nonce, acked) })
	defer sender.Wait()
	defer close(acked)
	for {
		kind, payload, err := in.next()
		if err != nil {
			return err
		}
		if kind != frameAck || len(payload) != helloSize || !bytes.Equal(payload[1:], nonce) {
			continue
		}
		if got := payload[0]; got != Version {
			return fmt.Errorf("%w: it speaks version %d of the guest channel, not %d", ErrVersion, got, Version)
		}
		return nil
	}
}

func resetUntil(w io.Writer, nonce []byte, acked <-chan struct{}) {
	tick := time.NewTicker(resetEvery)
	defer tick.Stop()
	// The delimiter in front ends whatever the last host left half-said.
	frame := appendFrame([]byte{0}, frameReset, hello(nonce))
	for {
		if _, err := w.Write(frame); err != nil {
			return // the reader finds out
		}
		select {
		case <-tick.C:
		case <-acked:
			return
		}
	}
}

// Open opens a connection to whoever listens in the guest. It waits while the
// guest reads nothing, until ctx or the session ends.
func (s *Session) Open(ctx context.Context) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	type opened struct {
		conn net.Conn
		err  error
	}
	done := make(chan opened)
	go func() { // ends with the session at the latest
		conn, err := s.mux.Open()
		select {
		case done <- opened{conn, err}:
		case <-ctx.Done():
			if err == nil {
				conn.Close()
			}
		}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, o.err
		}
		return detach(o.conn), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// detach returns a connection to where conn leads that can be closed at any
// time. One of yamux cannot: while the guest reads nothing, all its calls
// wait, and closing it ends none of them.
func detach(conn net.Conn) net.Conn {
	near, far := net.Pipe()
	carry := func(to, from net.Conn) { // ends with the session at the latest
		io.CopyBuffer(to, from, make([]byte, maxData)) // the end of one side is that of the other
		far.Close()
		conn.Close()
	}
	go carry(far, conn)
	go carry(conn, far)
	return near
}

// Context ends with the session. Its cause is why: context.Canceled if it was
// closed on this side.
func (s *Session) Context() context.Context { return s.life }

// Close ends the session and its connections. It does not wait for the guest.
func (s *Session) Close() error {
	err := s.mux.Close()
	<-s.life.Done()
	return err
}

// stream turns frames into the bytes that yamux wants. Only the host reads
// from one.
type stream struct {
	in     *frames
	out    io.Writer
	closer io.Closer

	rest  []byte // of the last data frame
	guard guard

	mu  sync.Mutex
	buf []byte // guarded by mu
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		kind, payload, err := s.in.next()
		if err != nil {
			return 0, err
		}
		switch kind {
		case frameData:
			if err := s.guard.check(payload); err != nil {
				return 0, err
			}
			s.rest = payload
		case frameLost:
			return 0, ErrReset
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *stream) Write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n < len(p) {
		part := p[n:min(len(p), n+maxData)]
		s.buf = appendFrame(s.buf[:0], frameData, part)
		if _, err := s.out.Write(s.buf); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

func (s *stream) Close() error { return s.closer.Close() }
