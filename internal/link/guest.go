package link

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/yamux"
)

// idle is how long the guest waits before it looks at a port again that has
// no host: reading it returns end-of-file at once.
const idle = 20 * time.Millisecond

// Serve answers the host's resets on port, and calls handle for each session
// with a listener that accepts the host's connections. handle returns when
// the listener is closed: by the next reset, or with ctx. Serve returns when
// ctx ends.
func Serve(ctx context.Context, port io.ReadWriter, handle func(net.Listener)) error {
	in := newFrames(&patient{ctx: ctx, port: port})
	var current *guestSession
	defer func() { current.end() }()
	for {
		kind, payload, err := in.next()
		if err != nil {
			return err
		}
		switch {
		case kind == frameReset && len(payload) == nonceSize:
			if current.has(payload) { // sent again before our answer came
				continue
			}
			current.end()
			if current, err = begin(port, payload, handle); err != nil {
				return err
			}
		case kind == frameData && current != nil:
			current.feed(payload)
		}
	}
}

type guestSession struct {
	nonce []byte
	data  *io.PipeWriter
	mux   *yamux.Session
	over  chan struct{}
}

func begin(port io.Writer, nonce []byte, handle func(net.Listener)) (*guestSession, error) {
	if _, err := port.Write(appendFrame([]byte{0}, frameAck, nonce)); err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	g := &guestSession{nonce: slices.Clone(nonce), data: w, over: make(chan struct{})}
	var err error
	if g.mux, err = yamux.Server(&guestStream{PipeReader: r, out: stream{out: port}}, settings()); err != nil {
		return nil, err
	}
	go func() {
		defer close(g.over)
		handle(g.mux)
	}()
	return g, nil
}

func (g *guestSession) has(nonce []byte) bool { return g != nil && slices.Equal(g.nonce, nonce) }

// feed hands data to the session; a session that has ended takes none.
func (g *guestSession) feed(p []byte) {
	if _, err := g.data.Write(p); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		g.data.Close()
	}
}

func (g *guestSession) end() {
	if g == nil {
		return
	}
	g.data.CloseWithError(ErrReset)
	g.mux.Close()
	<-g.over
}

type guestStream struct {
	*io.PipeReader
	out stream
}

func (s *guestStream) Write(p []byte) (int, error) { return s.out.Write(p) }

// patient reads a port that has no host now and then.
type patient struct {
	ctx  context.Context
	port io.Reader
}

func (p *patient) Read(b []byte) (int, error) {
	for {
		n, err := p.port.Read(b)
		if n > 0 {
			return n, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		select {
		case <-time.After(idle):
		case <-p.ctx.Done():
			return 0, p.ctx.Err()
		}
	}
}
