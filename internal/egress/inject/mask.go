package inject

import (
	"bytes"
	"cmp"
	"io"
	"net/http"
	"slices"
	"strings"
)

// told is how many first bytes of a secret may pass before it is clear that it
// is one. Streams would stall if the one byte were held back by which a piece
// of them ends and a secret begins.
const told = 4

// mask finds what must not come back, and puts asterisks in its place: as
// many, so that lengths stay true.
type mask struct {
	needles []needle // longest first
	longest int
	echoed  func(secret string)
}

func newMask(sent []needle, echoed func(string)) *mask {
	m := &mask{echoed: echoed}
	for _, n := range sent {
		if !slices.Contains(m.needles, n) {
			m.needles = append(m.needles, n)
		}
	}
	slices.SortStableFunc(m.needles, func(a, b needle) int { return cmp.Compare(len(b.text), len(a.text)) })
	if len(m.needles) > 0 {
		m.longest = len(m.needles[0].text)
	}
	return m
}

// text masks a text.
func (m *mask) text(s string) string {
	for _, n := range m.needles {
		if strings.Contains(s, n.text) {
			m.echoed(n.secret)
			s = strings.ReplaceAll(s, n.text, strings.Repeat("*", len(n.text)))
		}
	}
	return s
}

func (m *mask) headers(h http.Header) {
	for _, values := range h {
		for i, v := range values {
			values[i] = m.text(v)
		}
	}
}

// reader masks a stream. What it has read it passes on at once, but for the
// end of a piece that more than begins like a secret.
func (m *mask) reader(from io.Reader) io.Reader {
	if len(m.needles) == 0 {
		return from
	}
	return &maskReader{m: m, from: from, buf: make([]byte, 32<<10)}
}

type maskReader struct {
	m    *mask
	from io.Reader
	buf  []byte
	// raw is the end of what was read, as it came, and out is the same masked;
	// the first passed bytes were passed on.
	raw, out []byte
	passed   int
	// ready is how far it may be passed on.
	ready int
	err   error
}

func (r *maskReader) Read(p []byte) (int, error) {
	for r.passed == r.ready {
		if r.err != nil {
			return 0, r.err
		}
		n, err := r.from.Read(r.buf)
		r.take(r.buf[:n])
		if r.err = err; err != nil {
			r.ready = len(r.raw)
		}
	}
	n := copy(p, r.out[r.passed:r.ready])
	r.passed += n
	return n, nil
}

// take takes in what comes next, once all before it that may be passed on was.
func (r *maskReader) take(piece []byte) {
	// What was passed on is needed only where something may end that began
	// there.
	if drop := min(r.passed, len(r.raw)-r.m.longest); drop > 0 {
		r.raw, r.out = slices.Delete(r.raw, 0, drop), slices.Delete(r.out, 0, drop)
		r.passed -= drop
	}
	r.raw, r.out = append(r.raw, piece...), append(r.out, piece...)
	hold := 0
	for _, n := range r.m.needles {
		r.cover(n)
		hold = max(hold, beginning(r.raw, n.text)-told)
	}
	r.ready = max(r.passed, len(r.raw)-hold)
}

// cover masks every place of a needle that is not passed on yet.
func (r *maskReader) cover(n needle) {
	// One that ends in what was passed on has been seen.
	from := max(0, r.passed-len(n.text)+1)
	for {
		i := bytes.Index(r.raw[from:], []byte(n.text))
		if i < 0 {
			return
		}
		from += i
		hidden := false // was not so before
		for j := max(from, r.passed); j < from+len(n.text); j++ {
			hidden, r.out[j] = hidden || r.out[j] != '*', '*'
		}
		if hidden {
			r.m.echoed(n.secret)
		}
		from++
	}
}

// beginning returns the length of the longest end of b that text begins with.
func beginning(b []byte, text string) int {
	for n := min(len(b), len(text)-1); n > 0; n-- {
		if string(b[len(b)-n:]) == text[:n] {
			return n
		}
	}
	return 0
}
