package front

import (
	"context"
	"errors"
	"os"

	"bulkhead/client"
	"bulkhead/internal/daemon/wire"
	"bulkhead/internal/vmm/qemu"
)

// cage asks the kernel about a sandbox's VMM. One that has just ended has none.
func (a *Front) cage(ctx context.Context, ref string) (*client.Cage, error) {
	dir, err := a.Manager.Console(ref)
	if err != nil {
		return nil, err
	}
	p, err := a.Cages.Find(ctx, dir)
	if errors.Is(err, os.ErrProcessDone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := p.Inspect()
	if errors.Is(err, os.ErrProcessDone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := wire.Cage(r)
	c.Differences = []client.CageDifference{}
	for _, d := range p.Verify(r, qemu.Filters) {
		c.Differences = append(c.Differences, client.CageDifference(d))
	}
	return c, nil
}
