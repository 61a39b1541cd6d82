package egress

import (
	"context"
	"time"

	"bulkhead/internal/egress/policy"
)

// Ledger is what a gate remembers.
type Ledger struct{ l *ledger }

// NewLedger makes one.
func NewLedger(clock func() time.Time) Ledger { return Ledger{newLedger(clock)} }

// Denied, Opened, Read and Spend are its methods.
func (l Ledger) Denied(destination, rule, reason string) bool {
	return l.l.denied(destination, rule, reason)
}
func (l Ledger) Opened(destination string) { l.l.opened(destination) }
func (l Ledger) Read() ([]Use, []Denial)   { return l.l.read() }
func (l Ledger) Spend(destination string, limits *policy.Limits, up, down int64) error {
	return l.l.spend(destination, limits, up, down)
}

// Desk is where questions wait.
type Desk struct{ d *desk }

// NewDesk makes one.
func NewDesk(clock func() time.Time) Desk { return Desk{newDesk(clock)} }

// Ask, Answer and Questions are its methods.
func (d Desk) Ask(ctx context.Context, destination string, tell func()) (bool, string) {
	return d.d.ask(ctx, destination, tell)
}
func (d Desk) Answer(destination string, a Answer) error { return d.d.answer(destination, a) }
func (d Desk) Questions() []Question                     { return d.d.questions() }

// Meter lets so many pass in an hour.
type Meter struct{ m *meter }

// NewMeter makes one.
func NewMeter() Meter { return Meter{&meter{}} }

// Pass is its method.
func (m Meter) Pass(now time.Time) (bool, int) { return m.m.pass(now) }
