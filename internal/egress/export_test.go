package egress

import (
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
