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
	"strings"
	"time"
	"unicode/utf8"
)

// Clip shortens a column to at most so many characters, so that tables fit 80
// columns. What is cut ends in a tilde.
func Clip(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "~"
}

// Short is the beginning of an id, which is as good as all of it.
func Short(id string) string { return id[:min(len(id), 8)] }

// Fold breaks text between words into lines of at most 80 columns, those after
// the first with an indent.
func Fold(text, indent string) string {
	const most = 80
	words := strings.Split(text, " ")
	folded, columns := words[0], utf8.RuneCountInString(words[0])
	for _, word := range words[1:] {
		n := utf8.RuneCountInString(word)
		if columns+1+n > most {
			folded, columns = folded+"\n"+indent+word, len(indent)+n
		} else {
			folded, columns = folded+" "+word, columns+1+n
		}
	}
	return folded
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
