package link

import (
	"encoding/binary"
	"errors"
)

// errUnasked ends the session of a guest that asks the host for something.
var errUnasked = errors.New("the guest opens connections or pings")

// What guard must know of yamux's frames
// (https://github.com/hashicorp/yamux/blob/master/spec.md).
const (
	muxHeader = 12 // version, type, flags (2 bytes), stream (4), length (4)
	muxData   = 0
	muxPing   = 2
	muxSYN    = 1
)

// guard watches what the guest says to the host's yamux, which would keep
// something for each ping, and for each connection that the guest opens,
// without a bound. Our agent does neither.
type guard struct {
	head [muxHeader]byte
	have int    // of head
	body uint32 // bytes to come before the next header
}

// check looks at the next bytes of the guest's. It may return errUnasked.
func (g *guard) check(p []byte) error {
	for len(p) > 0 {
		if g.body > 0 {
			n := min(uint32(len(p)), g.body)
			p, g.body = p[n:], g.body-n
			continue
		}
		n := copy(g.head[g.have:], p)
		p, g.have = p[n:], g.have+n
		if g.have < muxHeader {
			return nil
		}
		g.have = 0
		if g.head[1] == muxPing || binary.BigEndian.Uint16(g.head[2:])&muxSYN != 0 {
			return errUnasked
		}
		if g.head[1] == muxData {
			g.body = binary.BigEndian.Uint32(g.head[8:])
		}
	}
	return nil
}
