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

// Denied, Opened and Read are its methods.
func (l Ledger) Denied(destination, rule, reason string) bool {
	return l.l.denied(destination, rule, reason)
}
func (l Ledger) Opened(destination string) { l.l.opened(destination) }
func (l Ledger) Read() ([]Use, []Denial)   { return l.l.read() }

// Budgets counts what limits are about.
type Budgets struct{ b *budgets }

// NewBudgets makes one.
func NewBudgets(clock func() time.Time) Budgets { return Budgets{newBudgets(clock)} }

// Scope makes the scope of a rule, or of the sandbox for "".
func Scope(name string, l policy.Limits) scope { return scope{name, &l} }

// Admit, Spend, Keep and Read are its methods.
func (b Budgets) Admit(s ...scope) (func(), error)       { return b.b.admit(s) }
func (b Budgets) Spend(up, down int64, s ...scope) error { return b.b.spend(s, up, down) }
func (b Budgets) Read(s ...scope) []Budget               { return b.b.read(s) }
func (b Budgets) Keep() ([]byte, error)                  { return b.b.marshal() }
func (b Budgets) Restore(doc []byte) error               { return b.b.unmarshal(doc) }

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
