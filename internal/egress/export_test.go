package egress

import (
	"context"
	"time"
)

// Desk is where questions wait.
type Desk struct{ d *desk }

// NewDesk makes one.
func NewDesk(clock func() time.Time) Desk { return Desk{newDesk(clock, time.Minute)} }

// Ask, Answer and Questions are its methods.
func (d Desk) Ask(ctx context.Context, destination string, tell func()) (bool, string) {
	return d.d.ask(ctx, destination, tell)
}
func (d Desk) Answer(destination string, a Answer) error { return d.d.answer(destination, a) }
func (d Desk) Questions() []Question                     { return d.d.questions() }
