package show

import (
	"fmt"
	"io"

	"bulkhead/client"
)

// Progress shows the steps of a build: a line per finished step and, on a
// terminal, the running one with its last line of output.
type Progress struct {
	// W is where it is shown.
	W io.Writer
	// Live says that W is a terminal.
	Live bool

	step string
	open bool // a line without an end is on the terminal
}

// Event shows one event of a build.
func (p *Progress) Event(e client.BuildEvent) {
	switch {
	case e.Log != "":
		p.Line(p.step + ": " + e.Log)
	case e.Done:
		p.End()
		fmt.Fprintf(p.W, "[%d/%d] %-50s %6.1f s\n", e.Number, e.Of, OneLine(e.Step), e.ElapsedMS/1000)
	default:
		p.step = fmt.Sprintf("[%d/%d] %s", e.Number, e.Of, e.Step)
		p.Line(p.step)
	}
}

// Line replaces what stands on the last line of a terminal.
func (p *Progress) Line(s string) {
	const columns = 79
	if p.Live {
		fmt.Fprintf(p.W, "\r\x1b[K%s", Clip(OneLine(s), columns))
		p.open = true
	}
}

// End removes the running step from the terminal.
func (p *Progress) End() {
	if p.open {
		fmt.Fprint(p.W, "\r\x1b[K")
		p.open = false
	}
}
