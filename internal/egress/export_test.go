package egress

import (
	"context"
	"time"

	"bulkhead/internal/egress/proxy"
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

// NameFor gives a name a stand-in, as the resolver of a sandbox does.
func (p *Perimeter) NameFor(id, name string) error {
	g, err := p.make(id)
	if err != nil {
		return err
	}
	if _, _, err = g.table.Address(name); err == nil {
		g.keepNames()
	}
	return err
}

// Names lists the names that have stand-ins.
func (p *Perimeter) Names(id string) ([]byte, error) {
	g, err := p.gate(id)
	if err != nil {
		return nil, err
	}
	return g.table.MarshalJSON()
}

// Decide has a connection decided about, which may wait.
func (p *Perimeter) Decide(ctx context.Context, id string, to proxy.Destination) (proxy.Verdict, error) {
	g, err := p.gate(id)
	if err != nil {
		return proxy.Verdict{}, err
	}
	return g.decide(ctx, to), nil
}
