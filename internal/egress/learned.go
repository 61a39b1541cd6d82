package egress

import (
	"context"
	"strconv"

	"bulkhead/internal/egress/learn"
)

// Learn starts or stops the record of what a sandbox talks to. Starting begins
// a new one.
func (p *Perimeter) Learn(ctx context.Context, id string, on bool) error {
	g, err := p.gate(id)
	if err != nil {
		return err
	}
	if on {
		g.learned.Start(p.cfg.Clock())
	} else {
		g.learned.Stop()
	}
	p.cfg.Event(ctx, "egress.learn", id, map[string]string{"on": strconv.FormatBool(on)})
	return g.write(learnedFile, g.learned.Keep)
}

// Learned returns the record of a sandbox.
func (p *Perimeter) Learned(id string) (learn.Record, error) {
	g, err := p.gate(id)
	if err != nil {
		return learn.Record{}, err
	}
	return g.learned.Read(), nil
}
