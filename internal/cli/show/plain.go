package show

import (
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// OneLine makes s one line, in which question marks stand for what is no
// visible text: in a message, that there was something is worth knowing.
func OneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsGraphic(r):
			return '?'
		}
		return r
	}, strings.TrimSpace(s))
}

// Plain returns a writer that passes on text to w without what could steer a
// terminal: escape sequences go as a whole, and all else that is no visible
// text but line breaks and tabs. How the text is cut into writes makes no
// difference. The writer serves one goroutine.
func Plain(w io.Writer) io.Writer { return &plain{w: w} }

type plain struct {
	w    io.Writer
	rest []byte // the beginning of a character
	at   place
}

// place is where in an escape sequence (ECMA-48, section 5) a text is.
type place int

const (
	inText    place = iota
	inEscape        // after ESC
	inShort         // after ESC and an intermediate: one final byte follows
	inControl       // in a control sequence: ESC [ ... letter
	inString        // in a command string: ESC ] ... until ESC \ or BEL
)

// Write implements io.Writer.
func (p *plain) Write(b []byte) (int, error) {
	in := append(p.rest, b...)
	clean := make([]byte, 0, len(in))
	for utf8.FullRune(in) {
		r, n := utf8.DecodeRune(in)
		if p.shows(r) && (r != utf8.RuneError || n > 1) {
			clean = append(clean, in[:n]...)
		}
		in = in[n:]
	}
	p.rest = slices.Clone(in)
	if _, err := p.w.Write(clean); err != nil {
		return 0, err
	}
	return len(b), nil
}

// shows moves on by one character and reports whether it is to be seen. The
// end of the line ends whatever it is in, so that a guest cannot hide more
// than a line, and so does what cannot be a part of it.
func (p *plain) shows(r rune) bool {
	const esc, bell = 0x1b, 0x07
	switch {
	case r == '\n':
		p.at = inText
		return true
	case r == esc:
		p.at = inEscape
		return false
	case p.at == inString:
		if r == bell {
			p.at = inText
		}
		return false
	case p.at != inText && r < 0x20:
		return false // done at once, in the middle of a sequence
	case p.at != inText && r < 0x7f:
		p.at = p.at.after(r)
		return false
	}
	p.at = inText
	return r == '\t' || unicode.IsGraphic(r)
}

// after returns where a sequence is behind one more of its characters.
func (at place) after(r rune) place {
	switch {
	case at == inControl && r < 0x40, at == inShort && r < 0x30:
		return at
	case at != inEscape:
		return inText
	case r < 0x30:
		return inShort
	case r == '[':
		return inControl
	case strings.ContainsRune("]PX^_", r):
		return inString
	}
	return inText
}
