package link

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// idle is how long the guest waits before it looks at a port again that has
// no host: reading it returns end-of-file at once.
const idle = 20 * time.Millisecond

// Serve answers the host's resets on port, and calls handle for each session
// with a listener that accepts the host's connections. handle returns when
// the listener is closed: by the next reset, or with ctx. The host is told
// when a session ends in any other way.
//
// Serve owns port, and returns when ctx ends or the port does: then port is
// closed and handle has returned.
func Serve(ctx context.Context, port io.ReadWriteCloser, handle func(net.Listener)) error {
	s := server{out: &gate{port: port}, handle: handle}
	defer func() { s.current.end() }()
	defer port.Close() // before that, so that nothing waits to write
	stop := context.AfterFunc(ctx, func() { port.Close() })
	defer stop()
	err := s.run(newFrames(&patient{ctx: ctx, port: port}))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// server is the guest's side of a port.
type server struct {
	out     *gate
	handle  func(net.Listener)
	current *guestSession // nil before the first
}

func (s *server) run(in *frames) error {
	// A host that was connected to an agent before this one waits for answers
	// that nobody will give.
	if err := s.out.lost(); err != nil {
		return err
	}
	for {
		kind, payload, err := in.next()
		if err != nil {
			return err
		}
		switch {
		case kind == frameReset && len(payload) == helloSize:
			if err := s.reset(payload[0], payload[1:]); err != nil {
				return err
			}
		case kind == frameData && s.current != nil:
			s.current.feed(payload)
		}
	}
}

// reset begins a session with a host that speaks our version. Any other is
// only told ours.
func (s *server) reset(version byte, nonce []byte) error {
	if s.current.has(nonce) { // sent again before our answer came
		return nil
	}
	s.current.end()
	s.current = nil
	pass, err := s.out.admit(slices.Clone(nonce))
	if err == nil && version == Version {
		s.current, err = begin(pass, s.handle)
	}
	return err
}

type guestSession struct {
	nonce []byte
	data  *io.PipeWriter
	mux   *yamux.Session
	over  chan struct{}
}

func begin(out pass, handle func(net.Listener)) (*guestSession, error) {
	r, w := io.Pipe()
	mux, err := yamux.Server(&guestStream{PipeReader: r, out: stream{out: out}}, settings())
	if err != nil {
		return nil, err
	}
	g := &guestSession{nonce: out.nonce, data: w, mux: mux, over: make(chan struct{})}
	go func() {
		defer close(g.over)
		handle(g.mux)
		g.mux.Close()
		out.Write(lostFrame()) // if the port is gone too, nobody waits
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

// gate lets one session at a time write to the port, whole frames only: what
// an old session still has to say must not fall into a new one.
type gate struct {
	mu    sync.Mutex
	port  io.Writer
	nonce []byte // guarded by mu; of the session that may write
}

// admit acknowledges a session. From then on no other can write.
func (g *gate) admit(nonce []byte) (pass, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.nonce = nonce
	_, err := g.port.Write(appendFrame([]byte{0}, frameAck, hello(nonce)))
	return pass{g, nonce}, err
}

// lost tells a host that is connected that it has no session.
func (g *gate) lost() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, err := g.port.Write(lostFrame())
	return err
}

func lostFrame() []byte { return appendFrame([]byte{0}, frameLost, nil) }

// pass is one session's right to write.
type pass struct {
	gate  *gate
	nonce []byte
}

func (p pass) Write(frame []byte) (int, error) {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	if !slices.Equal(p.gate.nonce, p.nonce) {
		return 0, ErrReset
	}
	return p.gate.port.Write(frame)
}

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
