package egress

import (
	"context"
	"encoding/json"
	"time"
)

// tellPause is how long denials are gathered before the guest is told: a
// program that tries without end must not keep the agent busy.
const tellPause = time.Second

// told is one line of what the guest may read of its own denials.
type told struct {
	Time        time.Time `json:"time"`
	Destination string    `json:"destination"`
	Rule        string    `json:"rule"`
	Reason      string    `json:"reason,omitempty"`
	Count       int       `json:"count"`
	// Ask says how to get it allowed.
	Ask string `json:"ask"`
}

// tell tells the guest of its denials, the latest first, whenever there are
// new ones, until ctx ends. It is a courtesy: a guest that cannot be told has
// been refused all the same.
func (g *gate) tell(ctx context.Context) error {
	for {
		select {
		case <-g.news:
		case <-ctx.Done():
			return nil
		}
		_, denials := g.ledger.Read()
		list := make([]told, 0, len(denials))
		for _, d := range denials {
			list = append(list, told{d.Time, d.Destination, d.Rule, d.Reason, d.Count,
				"ask the operator to run: bulkhead egress allow " + g.id + " " + d.Destination})
		}
		b, err := json.MarshalIndent(list, "", "  ")
		if err != nil {
			return err
		}
		if err := g.p.cfg.Tell(ctx, g.id, append(b, '\n')); err != nil && ctx.Err() == nil {
			g.log.Debug("guest is not told of its denials", "err", err)
		}
		select {
		case <-time.After(tellPause):
		case <-ctx.Done():
			return nil
		}
	}
}
