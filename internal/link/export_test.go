package link

import "io"

// Frames and their coding, for tests.
var (
	AppendFrame = appendFrame
	DecodeFrame = decodeFrame
)

// ReadFrames reads all frames off r.
func ReadFrames(r io.Reader) (kinds []byte, payloads [][]byte) {
	f := newFrames(r)
	for {
		k, p, err := f.next()
		if err != nil {
			return kinds, payloads
		}
		kinds, payloads = append(kinds, k), append(payloads, append([]byte{}, p...))
	}
}

const (
	MaxData    = maxData
	MaxEncoded = maxEncoded
)

// Acknowledge plays a guest until it has answered the first reset that comes.
func Acknowledge(port io.ReadWriter) error {
	f := newFrames(port)
	for {
		kind, payload, err := f.next()
		if err != nil {
			return err
		}
		if kind == frameReset {
			_, err := port.Write(appendFrame(nil, frameAck, payload))
			return err
		}
	}
}
