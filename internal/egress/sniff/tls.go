// Package sniff reads what the first bytes of a connection say of themselves:
// the name in a TLS ClientHello, and the host of HTTP requests.
//
// The bytes are a hostile guest's. A parser here takes nothing that it does
// not understand: whoever reads the same bytes at the other end must not be
// able to read something else in them. Each is bounded, and says ErrMore while
// bytes are missing.
//
// sniff is pure. It must not know what is done with a name.
package sniff

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// ErrMore is the answer to a beginning.
var ErrMore = errors.New("more bytes are needed")

// MaxHello and MaxHead bound what is read before there is an answer, in bytes.
// Real ones have 2 KiB and 8 KiB.
const (
	MaxHello = 16 << 10
	MaxHead  = 32 << 10
)

// Hello is what a ClientHello says.
type Hello struct {
	// Name is the server's name, lower case, without a dot at its end; "" if
	// none is said.
	Name string
	// Hidden is set if the real name may be in an encrypted ClientHello.
	Hidden bool
}

// IsTLS reports whether a stream that begins with b, of at least one byte, is
// TLS.
func IsTLS(b []byte) bool { return b[0] == recordHandshake }

// The numbers of RFC 8446, appendix B, RFC 6066 and RFC 9849.
const (
	recordHandshake = 22
	clientHello     = 1
	extServerName   = 0
	extECH          = 0xfe0d
	nameHost        = 0
)

// ClientHello reads the first message of a TLS client. It may come in any
// number of records.
func ClientHello(b []byte) (Hello, error) {
	message, err := handshake(b)
	if err != nil {
		return Hello{}, err
	}
	r := reader(message)
	r.skip(2 + 32) // version, random
	r.vector8()    // session
	r.vector16()   // cipher suites
	r.vector8()    // compression
	extensions := r.vector16()
	if len(r) > 0 || extensions == nil {
		return Hello{}, errors.New("ClientHello has another form")
	}
	return readExtensions(extensions)
}

// handshake joins the records of the first handshake message, and returns what
// is in that.
func handshake(b []byte) ([]byte, error) {
	var message []byte
	for {
		if len(message) >= 4 {
			if message[0] != clientHello {
				return nil, errors.New("the first message is no ClientHello")
			}
			size := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
			if size > MaxHello {
				return nil, fmt.Errorf("ClientHello has more than %d bytes", MaxHello)
			}
			if len(message) >= 4+size {
				return message[4 : 4+size], nil
			}
		}
		if len(b) < 5 {
			return nil, ErrMore
		}
		size := int(binary.BigEndian.Uint16(b[3:]))
		if b[0] != recordHandshake || b[1] != 3 || size == 0 || size > MaxHello {
			return nil, errors.New("a record before the ClientHello's end is of another kind")
		}
		if len(b) < 5+size {
			return nil, ErrMore
		}
		message = append(message, b[5:5+size]...)
		b = b[5+size:]
	}
}

func readExtensions(r reader) (h Hello, err error) {
	seen := map[uint16]bool{}
	for len(r) > 0 {
		kind := r.uint16()
		body := r.vector16()
		if body == nil || seen[kind] {
			return Hello{}, errors.New("an extension is cut off or comes twice")
		}
		seen[kind] = true
		switch kind {
		case extECH:
			h.Hidden = true
		case extServerName:
			if h.Name, err = serverName(body); err != nil {
				return Hello{}, err
			}
		}
	}
	return h, nil
}

// serverName reads the one name of type host_name (RFC 6066, section 3).
func serverName(r reader) (string, error) {
	list := r.vector16()
	if list == nil || len(r) > 0 {
		return "", errors.New("the list of names has another form")
	}
	kind := list.uint8()
	name := list.vector16()
	if kind != nameHost || len(name) == 0 || list == nil || len(list) > 0 {
		return "", errors.New("there is not one name")
	}
	return Name(string(name)), nil
}

// Name is a name as it is compared.
func Name(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

// reader reads from the front. Whatever is read beyond the end makes it nil,
// and what it returns then is zero.
type reader []byte

func (r *reader) skip(n int) []byte {
	if n > len(*r) {
		*r = nil
		return nil
	}
	b := (*r)[:n:n]
	*r = (*r)[n:]
	return b
}

func (r *reader) uint8() uint8 {
	if b := r.skip(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.skip(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// vector8 and vector16 read a length and as many bytes. Those of length 0 are
// empty, not nil.
func (r *reader) vector8() reader  { return r.vector(int(r.uint8())) }
func (r *reader) vector16() reader { return r.vector(int(r.uint16())) }

func (r *reader) vector(n int) reader {
	if *r == nil {
		return nil
	}
	b := r.skip(n)
	if b == nil && n == 0 {
		return reader{}
	}
	return b
}
