package link_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"bulkhead/internal/link"
	"bulkhead/test/leak"
)

// muxFrame is a header of yamux: version 0, kind, flags, stream, length.
func muxFrame(kind byte, flags uint16, length uint32) []byte {
	h := []byte{0, kind, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(h[2:], flags)
	binary.BigEndian.PutUint32(h[8:], length)
	return h
}

// met is a session with a guest that the test plays.
func met(t *testing.T) (*link.Session, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { theirs.Close() })
	acked := make(chan error)
	go func() {
		err := link.Acknowledge(theirs)
		io.Copy(io.Discard, theirs) // a reset may have been on its way
		acked <- err
	}()
	s := dial(t, ours)
	theirs.SetReadDeadline(time.Unix(1, 0)) // long past: reading ends
	if err := <-acked; err != nil {
		t.Fatal(err)
	}
	theirs.SetReadDeadline(time.Time{})
	return s, theirs
}

func TestGuestThatAsksLosesItsSession(t *testing.T) {
	const data, update, ping, syn = 0, 1, 2, 1
	for _, tt := range []struct {
		name string
		said []byte
	}{
		{"for an answer to a ping", muxFrame(ping, syn, 7)},
		{"for a connection, by an update", muxFrame(update, syn, 0)},
		{"for a connection, by data", muxFrame(data, syn, 5)},
		{"after data that looks harmless", slices.Concat(muxFrame(data, 0, 3), []byte("abc"), muxFrame(ping, syn, 0))},
	} {
		for _, size := range []int{1, 5, 1 << 10} {
			t.Run(tt.name, func(t *testing.T) {
				leak.Check(t)
				s, guest := met(t)
				go io.Copy(io.Discard, guest)
				for part := range slices.Chunk(tt.said, size) {
					if _, err := guest.Write(link.AppendFrame(nil, 'D', part)); err != nil {
						break // it ended already
					}
				}
				<-s.Context().Done()
			})
		}
	}
}

// Data that contains what would be forbidden as a header is only data.
func TestGuestMaySayAnythingInData(t *testing.T) {
	s, guest := met(t)
	body := bytes.Repeat(muxFrame(2, 1, 0), 100)
	said := slices.Concat(muxFrame(0, 0, uint32(len(body))), body)
	for part := range slices.Chunk(said, 7) {
		if _, err := guest.Write(link.AppendFrame(nil, 'D', part)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-s.Context().Done():
		t.Error("the session ended")
	default:
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	leak.Check(t)
	s, guest := met(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		io.CopyN(io.Discard, guest, 1) // and reads no more
		cancel(io.ErrNoProgress)
	}()
	if _, err := s.Open(ctx); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("error = %v, want the cause of the end", err)
	}
	s.Close()
	s.Close()
	if _, err := s.Open(t.Context()); err == nil {
		t.Error("a closed session opened a connection")
	}
}

// A guest that reads nothing holds nobody who wants to leave.
func TestStuckGuestIsLeft(t *testing.T) {
	leak.Check(t)
	s, guest := met(t)
	opened := make(chan struct{})
	go func() {
		io.CopyN(io.Discard, guest, 15) // the frame that opens a connection
		close(opened)
	}()
	c, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-opened
	ends := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ends <- err
	}()
	go func() {
		_, err := c.Write(make([]byte, 1<<20))
		ends <- err
	}()
	io.CopyN(io.Discard, guest, 1) // it is being written, and waits
	c.Close()
	for range 2 {
		if err := <-ends; err == nil {
			t.Error("a connection that was closed is still used")
		}
	}
	s.Close()
}

// A host must not wait for what an agent took with it.
func TestHostLearnsThatTheAgentBeginsAnew(t *testing.T) {
	leak.Check(t)
	s, guest := met(t)
	ended := make(chan error)
	go func() {
		io.CopyN(io.Discard, guest, 15) // the frame that opens a connection
		ended <- link.Serve(t.Context(), guest, func(net.Listener) {})
	}()
	// The end may come before the connection is open, or after.
	if c, err := s.Open(t.Context()); err == nil {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("read something from an agent that knows of no session")
		}
	}
	<-s.Context().Done()
	guest.Close()
	if err := <-ended; err == nil {
		t.Error("Serve ended without an error")
	}
}

func TestHostLearnsThatTheHandlerEnded(t *testing.T) {
	leak.Check(t)
	ours, theirs := net.Pipe()
	ended := make(chan error)
	go func() { ended <- link.Serve(t.Context(), theirs, func(l net.Listener) { l.Accept() }) }()
	s := dial(t, ours)
	// The end may come before the connection is open, or after.
	if c, err := s.Open(t.Context()); err == nil {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("read something from a handler that ended")
		}
	}
	<-s.Context().Done()
	theirs.Close()
	<-ended
}

func TestServeEndsWithItsContext(t *testing.T) {
	for _, tt := range []struct {
		name  string
		until func(t *testing.T, host net.Conn)
	}{
		{"when it cannot write", func(t *testing.T, host net.Conn) {}},
		{"when nobody speaks", func(t *testing.T, host net.Conn) { io.CopyN(io.Discard, host, 4) }},
		{"in a session", func(t *testing.T, host net.Conn) { dial(t, host) }},
		{"when a session cannot write", func(t *testing.T, host net.Conn) {
			io.CopyN(io.Discard, host, 4)
			host.Write(link.AppendFrame(nil, 'R', append([]byte{link.Version}, make([]byte, 16)...)))
			io.CopyN(io.Discard, host, 21) // the answer; nothing after it
			host.Write(link.AppendFrame(nil, 'D', muxFrame(2, 1, 0)))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leak.Check(t)
			ours, theirs := net.Pipe()
			defer ours.Close()
			ctx, cancel := context.WithCancelCause(t.Context())
			ended := make(chan error)
			go func() {
				ended <- link.Serve(ctx, theirs, func(l net.Listener) {
					for err := error(nil); err == nil; {
						_, err = l.Accept()
					}
				})
			}()
			tt.until(t, ours)
			cancel(io.ErrNoProgress)
			if err := <-ended; !errors.Is(err, io.ErrNoProgress) {
				t.Errorf("error = %v, want the cause of the end", err)
			}
		})
	}
}

// recorded keeps what passes a connection.
type recorded struct {
	net.Conn
	mu         sync.Mutex
	said, read bytes.Buffer // guarded by mu
}

func (r *recorded) Write(p []byte) (int, error) {
	n, err := r.Conn.Write(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said.Write(p[:n])
	return n, err
}

func (r *recorded) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read.Write(p[:n])
	return n, err
}

// A restored machine, and what lay in buffers, says again what was said before.
func TestOldSessionSaidAgain(t *testing.T) {
	w := newWire()
	serve(t, w)
	old := &recorded{Conn: w.plug()}
	s := dial(t, old)
	echo(t, s, 50_000)
	s.Close()

	t.Run("by the host", func(t *testing.T) {
		again := w.plug()
		go io.Copy(io.Discard, again)
		// All but the last bytes: it ends within a frame.
		if _, err := again.Write(old.said.Bytes()[:old.said.Len()-20]); err != nil {
			t.Fatal(err)
		}
		again.Close()
		echo(t, dial(t, w.plug()), 50_000)
	})
	t.Run("by the guest", func(t *testing.T) {
		w := newWire()
		host := w.plug()
		dialed := make(chan *link.Session)
		go func() { dialed <- dial(t, host) }()
		w.guest.Write(old.read.Bytes()[:old.read.Len()-20])
		serve(t, w)
		echo(t, <-dialed, 50_000)
	})
}

func TestReaderTakesFramesInPieces(t *testing.T) {
	in := link.AppendFrame([]byte{4, 0, 0xff, 0}, 'D', []byte("one"))
	in = append(in, bytes.Repeat([]byte{1}, link.MaxEncoded+1)...)
	in = link.AppendFrame(append(in, 0), 'D', bytes.Repeat([]byte{0, 1}, link.MaxData/2))
	in = append(in, 2, 'D') // without an end
	for _, tt := range []struct {
		name string
		r    io.Reader
	}{
		{"of one byte", iotest.OneByteReader(bytes.NewReader(in))},
		{"of half", iotest.HalfReader(bytes.NewReader(in))},
		{"with the end in the last", iotest.DataErrReader(bytes.NewReader(in))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kinds, got := link.ReadFrames(tt.r)
			if string(kinds) != "DD" || string(got[0]) != "one" || len(got[1]) != link.MaxData {
				t.Errorf("read %q", kinds)
			}
		})
	}
}
