package egress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"bulkhead/internal/durable"
	"bulkhead/internal/egress/policy"
)

// The files of a gate.
const (
	policyFile = "policy.yaml"
	namesFile  = "names.json"
	// budgetsFile holds what was counted, at most budgetsKept old.
	budgetsFile = "budgets.json"
	budgetsKept = 5 * time.Second
	learnedFile = "learned.json"
	bindingFile = "binding.json"
)

func (g *gate) path(file string) string { return filepath.Join(g.p.dir(g.id), file) }

// write writes what is news. Whoever asks at the same time writes one after the
// other, and the last has written all that is known.
func (g *gate) write(file string, news func() ([]byte, error)) error {
	g.writing.Lock()
	defer g.writing.Unlock()
	b, err := news()
	if b == nil || err != nil {
		return err
	}
	return durable.WriteFile(g.path(file), b, 0o600)
}

// change puts in force what f makes of the policy, one change after the other.
func (g *gate) change(f func(*policy.Policy) (*policy.Policy, error)) (to *policy.Policy, err error) {
	g.changing.Lock()
	defer g.changing.Unlock()
	if to, err = f(g.policy.Load()); err == nil {
		err = g.checkSecrets(to)
	}
	if err != nil {
		return nil, err
	}
	if err := g.keepPolicy(to); err != nil {
		return nil, fmt.Errorf("set egress policy of %s: %w", g.id, err)
	}
	if l := g.current(); l != nil {
		l.proxy.Recheck()
	}
	return to, nil
}

func (g *gate) keepPolicy(to *policy.Policy) error {
	err := g.write(policyFile, func() ([]byte, error) { return to.Marshal(), nil })
	if err == nil {
		g.policy.Store(to)
	}
	return err
}

// keepNames writes the table, so that a name keeps its stand-in for good.
func (g *gate) keepNames() {
	if err := g.write(namesFile, func() ([]byte, error) { return json.Marshal(g.table) }); err != nil {
		g.log.Warn("stand-ins are not kept", "err", err)
	}
}

// keep writes what was counted and learned, every so often and at the end.
func (g *gate) keep(ctx context.Context) error {
	tick := time.NewTicker(budgetsKept)
	defer tick.Stop()
	for {
		if err := errors.Join(g.write(budgetsFile, g.budgets.Keep), g.write(learnedFile, g.learned.Keep)); err != nil {
			g.log.Warn("egress counts are not kept", "err", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
