package live

import (
	"context"
	"errors"
	"fmt"
)

// Suspend has a running machine stand still where it is: its programs are
// frozen and its virtual CPUs stopped. On error it runs on, unless its VMM died.
func (r *Runner) Suspend(ctx context.Context, m *Machine, size Size) (err error) {
	defer func() { // an agent may freeze and not say so
		if err != nil {
			err = errors.Join(err, r.Wake(context.WithoutCancel(ctx), m, size))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, guestTimeout)
	defer cancel()
	// Its clock stands still too. So programs go on only once that is right.
	if err := m.Guest.Freeze(ctx); err != nil {
		return fmt.Errorf("freeze guest: %w", err)
	}
	if err := m.VM.Stop(ctx); err != nil {
		return fmt.Errorf("stop machine: %w", err)
	}
	return nil
}

// Wake has a machine that stands still go on, with a right clock and all of its
// memory. It is nil for
// a machine without a connection too: whoever connects makes it right.
func (r *Runner) Wake(ctx context.Context, m *Machine, size Size) error {
	if err := errors.Join(m.VM.Balloon(ctx, size.MemoryMiB), m.VM.Continue(ctx)); err != nil {
		return fmt.Errorf("continue machine: %w", err)
	}
	if m.Guest == nil || m.Guest.Session().Err() != nil {
		return nil
	}
	ctx, cancel := Patiently(ctx)
	defer cancel()
	err := m.Guest.Resume(ctx, nil, nil)
	if err != nil && errors.Is(context.Cause(ctx), ErrSilent) {
		return ErrSilent
	}
	return err
}

// Knock watches for what the network has for a machine, until ctx ends. The
// channel is closed once there is something; it is held for a machine that
// stands still. Nil for a machine without a network.
func (m *Machine) Knock(ctx context.Context) (<-chan struct{}, error) {
	if m.link == nil {
		return nil, nil
	}
	return m.link.Knock(ctx)
}
