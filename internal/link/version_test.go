package link_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"bulkhead/internal/link"
	"bulkhead/test/leak"
)

// reset is what a host sends that speaks version.
func reset(version byte, nonce string) []byte {
	return link.AppendFrame([]byte{0}, 'R', append([]byte{version}, nonce...))
}

const nonce = "0123456789abcdef"

// An agent from a snapshot of another release is no silent misunderstanding.
func TestHostRefusesAnAgentOfAnotherVersion(t *testing.T) {
	leak.Check(t)
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() {
		asked := make([]byte, len(reset(1, nonce)))
		io.ReadFull(theirs, asked)
		_, payload, _ := link.DecodeFrame(asked[1 : len(asked)-1])
		go io.Copy(io.Discard, theirs)
		theirs.Write(link.AppendFrame(nil, 'A', append([]byte{link.Version + 1}, payload[1:]...)))
	}()
	s, err := link.Dial(t.Context(), ours)
	if err == nil {
		s.Close()
	}
	if !errors.Is(err, link.ErrVersion) || !strings.Contains(err.Error(), "speaks version 2 of the guest channel, not 1") {
		t.Errorf("error = %v, want %v with both versions", err, link.ErrVersion)
	}
}

// It learns what we speak, and gets no session.
func TestGuestTellsAHostOfAnotherVersion(t *testing.T) {
	leak.Check(t)
	host, theirs := net.Pipe()
	ended := make(chan error)
	go func() {
		ended <- link.Serve(t.Context(), theirs, func(net.Listener) { t.Error("it was given a session") })
	}()
	io.CopyN(io.Discard, host, 4) // that there is no session yet
	for range 2 {
		if _, err := host.Write(reset(link.Version+1, nonce)); err != nil {
			t.Fatal(err)
		}
		want := link.AppendFrame([]byte{0}, 'A', append([]byte{link.Version}, nonce...))
		got := make([]byte, len(want))
		if _, err := io.ReadFull(host, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("answer %x, %v, want %x", got, err, want)
		}
	}
	host.Close()
	theirs.Close()
	<-ended
}

// Whatever a guest says that does not know the host's nonce begins nothing.
func FuzzDial(f *testing.F) {
	for _, version := range []byte{0, link.Version, 0xff} {
		f.Add(link.AppendFrame([]byte{0}, 'A', append([]byte{version}, nonce...)))
		f.Add(reset(version, nonce))
	}
	f.Add(link.AppendFrame(nil, 'A', []byte(nonce))) // before there were versions
	f.Add(link.AppendFrame(nil, 'L', nil))
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, theirs := net.Pipe()
		go io.Copy(io.Discard, theirs)
		go func() {
			theirs.Write(said)
			theirs.Close()
		}()
		if s, err := link.Dial(t.Context(), ours); err == nil {
			s.Close()
			t.Errorf("%x began a session", said)
		}
	})
}

// said is a port with a host that has said all that it ever will.
type said struct {
	io.Reader
	io.Writer
}

func (said) Close() error { return nil }

// Whatever is said to an agent, it goes on until its port ends.
func FuzzServe(f *testing.F) {
	hello := reset(link.Version, nonce)
	for _, data := range [][]byte{nil, muxFrame(1, 1, 0), muxFrame(2, 1, 7), muxFrame(3, 0, 0), {9, 9, 9}} {
		f.Add(link.AppendFrame(bytes.Clone(hello), 'D', data))
	}
	f.Add(append(reset(link.Version+1, nonce), hello...))
	f.Add(link.AppendFrame(nil, 'R', []byte(nonce))) // before there were versions
	f.Fuzz(func(t *testing.T, in []byte) {
		gone := errors.New("port is gone")
		port := said{io.MultiReader(bytes.NewReader(in), fails{gone}), io.Discard}
		err := link.Serve(context.Background(), port, func(l net.Listener) {
			for err := error(nil); err == nil; {
				_, err = l.Accept()
			}
		})
		if !errors.Is(err, gone) {
			t.Errorf("ended with %v", err)
		}
	})
}

type fails struct{ err error }

func (f fails) Read([]byte) (int, error) { return 0, f.err }
