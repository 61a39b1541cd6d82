package link_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"bulkhead/internal/link"
	"bulkhead/test/leak"
)

// patience turns a hang into a failure; nothing is measured by it.
const patience = 30 * time.Second

// wire is a serial port between host and guest. The guest's end stays while
// hosts come and go, as with a chardev socket.
type wire struct {
	guest *port
	// read is closed when all has been read that the last host sent.
	read chan struct{}
}

// port is the guest's end: what the current host sends is read, what the
// guest writes without a host is lost.
type port struct {
	mu   sync.Mutex
	cond *sync.Cond
	in   bytes.Buffer // guarded by mu
	host net.Conn     // guarded by mu; nil without a host
	over bool         // guarded by mu
}

func newWire() *wire {
	p := &port{}
	p.cond = sync.NewCond(&p.mu)
	w := &wire{guest: p, read: make(chan struct{})}
	close(w.read)
	return w
}

// plug connects a new host in place of the last and returns its end.
func (w *wire) plug() net.Conn {
	ours, theirs := net.Pipe()
	w.guest.mu.Lock()
	if w.guest.host != nil {
		w.guest.host.Close()
	}
	w.guest.host = theirs
	w.guest.mu.Unlock()
	<-w.read
	read := make(chan struct{})
	w.read = read
	go func() {
		defer close(read)
		buf := make([]byte, 4096)
		for {
			n, err := theirs.Read(buf)
			w.guest.mu.Lock()
			w.guest.in.Write(buf[:n])
			w.guest.cond.Broadcast()
			w.guest.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return ours
}

func (p *port) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.in.Len() == 0 && !p.over {
		p.cond.Wait()
	}
	if p.over {
		return 0, io.ErrClosedPipe
	}
	return p.in.Read(b)
}

func (p *port) Write(b []byte) (int, error) {
	p.mu.Lock()
	host := p.host
	p.mu.Unlock()
	if host != nil {
		host.Write(b) // a host that is gone reads nothing
	}
	return len(b), nil
}

// Close ends the port for good, also for who waits in it.
func (p *port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.cond.Broadcast()
	if p.host != nil {
		p.host.Close()
	}
	return nil
}

// serve runs a guest that echoes on every connection.
func serve(t *testing.T, w *wire) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		link.Serve(ctx, w.guest, func(l net.Listener) {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					io.Copy(c, c)
				}()
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

func dial(t *testing.T, conn net.Conn) *link.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := link.Dial(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// echo sends n bytes over a fresh connection and wants them back.
func echo(t *testing.T, s *link.Session, n int) {
	t.Helper()
	c, err := s.Open(t.Context())
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	sent := make([]byte, n)
	for i := range sent {
		sent[i] = byte(i * i >> 3) // with many zeros and all other bytes
	}
	go c.Write(sent)
	got := make([]byte, n)
	if _, err := io.ReadFull(c, got); err != nil {
		t.Errorf("echo of %d bytes: %v", n, err)
		return
	}
	if sha256.Sum256(got) != sha256.Sum256(sent) {
		t.Errorf("echo of %d bytes came back different", n)
	}
}

func TestSessionCarriesManyConnections(t *testing.T) {
	w := newWire()
	serve(t, w)
	s := dial(t, w.plug())
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() { echo(t, s, 1+i*10_000) })
	}
	all.Wait()
	echo(t, s, 10<<20)
}

// A new host finds a guest in the middle of an old session, and of a frame.
func TestNewHostBeginsAnew(t *testing.T) {
	for _, tt := range []struct {
		name string
		said []byte
	}{
		{"nothing", nil},
		{"half a frame", []byte{5, 'D', 1, 2}},
		{"a frame without an end", bytes.Repeat([]byte{7}, 100_000)},
		{"frames of no session", []byte{0, 3, 'D', 9, 0, 2, 'X', 0, 0, 0}},
		{"an acknowledgement", append([]byte{19, 'A', link.Version}, append(bytes.Repeat([]byte{1}, 16), 0)...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire()
			serve(t, w)
			echo(t, dial(t, w.plug()), 1000)
			lost := w.plug()
			if _, err := lost.Write(tt.said); err != nil {
				t.Fatal(err)
			}
			lost.Close()
			echo(t, dial(t, w.plug()), 100_000)
		})
	}
}

// What a guest sends before it acknowledges is of the past.
func TestHostSkipsWhatIsOfThePast(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		theirs.Write(append([]byte{1, 2, 3, 0, 19, 'A', link.Version}, append(bytes.Repeat([]byte{9}, 16), 0)...))
		io.CopyN(io.Discard, theirs, 60) // three resets: it still asks
	}()
	if s, err := link.Dial(ctx, ours); err == nil {
		s.Close()
		t.Fatal("took an acknowledgement of another session for its own")
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	leak.Check(t)
	ours, theirs := net.Pipe()
	defer theirs.Close()
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		io.CopyN(io.Discard, theirs, 40) // two resets
		cancel(io.ErrNoProgress)
	}()
	s, err := link.Dial(ctx, ours)
	if err == nil {
		s.Close()
	}
	if !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("error = %v, want the cause of the end", err)
	}
}

// A session says why it ended.
func TestSessionEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*wire, *link.Session)
		want error
	}{
		{"with its port", func(w *wire, _ *link.Session) { w.guest.Close() }, io.EOF},
		{"by the host", func(_ *wire, s *link.Session) { s.Close() }, context.Canceled},
		{"with its agent", func(w *wire, _ *link.Session) {
			w.guest.Write(link.AppendFrame(nil, 'L', nil))
		}, link.ErrReset},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire()
			serve(t, w)
			s := dial(t, w.plug())
			if err := context.Cause(s.Context()); err != nil {
				t.Fatalf("has ended before its end: %v", err)
			}
			tt.end(w, s)
			<-s.Context().Done()
			if err := context.Cause(s.Context()); !errors.Is(err, tt.want) {
				t.Errorf("cause = %v, want %v", err, tt.want)
			}
		})
	}
}
