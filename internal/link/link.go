// Package link makes a byte stream that survives either side's restart out of
// a serial port, and many connections out of that.
//
// The port between host and guest never closes for good: a restored guest
// remembers a host that is gone, maybe in the middle of a frame, and a new
// daemon finds a guest in the middle of an old session. So the host begins
// each session with a reset frame that carries a fresh nonce, and repeats it
// until the guest has echoed the nonce; whatever else arrives until then is of
// the past and thrown away.
//
//	host                                 guest
//	RESET version nonce  ──────────────►  drops its session
//	                     ◄──────────────  ACK version nonce
//	DATA                 ◄─────────────►  DATA
//	                     ◄──────────────  LOST, if the guest's side ends or begins anew
//
// A snapshot keeps the agent of the release that it was taken with, so each
// side says what version it speaks. If they differ there is no session, and
// the host knows why.
//
// Over the data runs yamux, so that each side sees net.Conns. link knows
// nothing of what they carry. Both sides treat the other as hostile: frames
// are bounded, and garbage is skipped.
package link

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/hashicorp/yamux"
)

// Version is what both sides must speak alike: the frames, what yamux is set
// to, and whatever the services above it do not settle between themselves. It
// goes up with every change that a side of the version before would get wrong.
// Resets and acknowledgements keep their form for ever.
const Version = 1

// Frame types.
const (
	frameReset = 'R'
	frameAck   = 'A'
	frameData  = 'D'
	frameLost  = 'L'
)

const (
	// maxData bounds the payload of a data frame. It is near yamux's own
	// writes and far above what the port moves at once.
	maxData = 16 << 10
	// maxEncoded bounds what a reader keeps of a frame.
	maxEncoded = maxData + maxData/254 + 16
	nonceSize  = 16
	// helloSize is that of what a reset and its acknowledgement carry: a
	// version and the nonce.
	helloSize = 1 + nonceSize
	// window is how much a stream may send ahead of its reader, the minimum
	// that yamux allows; it bounds what a peer can make us keep.
	window = 256 << 10
)

var (
	// ErrReset is what a session's reads return once the host has begun
	// another, or the guest has lost it.
	ErrReset = errors.New("session was reset")
	// ErrVersion is what Dial returns if the agent speaks another version.
	ErrVersion = errors.New("agent is of another release")
)

func hello(nonce []byte) []byte { return append([]byte{Version}, nonce...) }

// frames reads frames off a port.
type frames struct {
	r   *bufio.Reader
	buf []byte
}

func newFrames(r io.Reader) *frames {
	return &frames{r: bufio.NewReaderSize(r, 32<<10), buf: make([]byte, 0, maxEncoded)}
}

// next returns the next whole frame. The payload is valid until the next
// call. What is not a frame, or too long for one, is skipped.
func (f *frames) next() (kind byte, payload []byte, err error) {
	for {
		f.buf = f.buf[:0]
		long := false
		for {
			part, err := f.r.ReadSlice(0)
			if len(f.buf)+len(part) > maxEncoded+1 {
				long = true
				f.buf = f.buf[:0]
			} else {
				f.buf = append(f.buf, part...)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				return 0, nil, err
			}
		}
		if long || len(f.buf) == 0 {
			continue
		}
		if kind, payload, ok := decodeFrame(bytes.TrimSuffix(f.buf, []byte{0})); ok {
			return kind, payload, nil
		}
	}
}

// settings are yamux's for both sides. Keep-alives are off: a stopped machine
// is silent for as long as it likes. Closing waits for nobody.
func settings() *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	c.ConnectionWriteTimeout = time.Hour // a stopped guest reads nothing; callers have their own limits
	c.StreamOpenTimeout = 0
	c.StreamCloseTimeout = 10 * time.Second
	c.MaxStreamWindowSize = window
	c.LogOutput = io.Discard
	return c
}
