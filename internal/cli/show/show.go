// Package show makes text for people: what fits a terminal of 80 columns, and
// does nothing to it.
//
// Much of what the command line prints comes from a guest, and escape
// sequences can do things to a screen. So all of it goes through here first.
//
// show knows the answers of package client, no daemon and no command. It has
// no state but what its writers hold; these serve one goroutine each.
package show

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Printable replaces what is no visible text by question marks. Line breaks
// and tabs stay.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !harmless(r) {
			return '?'
		}
		return r
	}, s)
}

// OneLine is Printable without line breaks.
func OneLine(s string) string {
	return strings.ReplaceAll(Printable(strings.TrimSpace(s)), "\n", " ")
}

// harmless tells text from what could steer a terminal or, as marks of the
// direction of writing do, show other text than there is.
func harmless(r rune) bool { return r == '\n' || r == '\t' || unicode.IsPrint(r) }

// Plain returns a writer that passes on text to w without what could steer a
// terminal. A character that comes in pieces stays whole.
func Plain(w io.Writer) io.Writer { return &plain{w: w} }

type plain struct {
	w    io.Writer
	rest []byte // the beginning of a character
}

// Write implements io.Writer.
func (p *plain) Write(b []byte) (int, error) {
	in := append(p.rest, b...)
	clean := make([]byte, 0, len(in))
	for utf8.FullRune(in) {
		r, n := utf8.DecodeRune(in)
		if harmless(r) && r != utf8.RuneError {
			clean = append(clean, in[:n]...)
		}
		in = in[n:]
	}
	p.rest = append([]byte(nil), in...)
	if _, err := p.w.Write(clean); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Clip shortens a column to at most so many characters, so that tables fit 80
// columns.
func Clip(s string, most int) string {
	n := 0
	for i := range s {
		if n == most {
			return s[:i]
		}
		n++
	}
	return s
}

// Bytes shows a size, in at most ten characters.
func Bytes(n int64) string {
	const units = "KMGT"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// Age shows how long something took or has been there, in one unit.
func Age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
