package sandbox

import (
	"context"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/lifecycle"
)

// Suspend stops a running machine in memory, unless it is used. Whatever is
// asked of it, and whatever the network has for it, has it go on, in
// milliseconds. why is the reason, for its user.
func (m *Manager) Suspend(ctx context.Context, ref, why string) error {
	_, err := m.ask(ctx, ref, lifecycle.Suspend, func(b *box, ctx context.Context) error { return b.suspend(ctx, why) })
	return err
}

// Balloon has a running machine give back all but mib MiB of its memory; all of
// it or more gives it back to the machine. It does not wait for the guest.
func (m *Manager) Balloon(ctx context.Context, ref string, mib int) error {
	b, err := m.find(ref)
	if err != nil {
		return err
	}
	if l := b.machine(); l != nil {
		return l.VM.Balloon(ctx, mib)
	}
	return nil
}

func (b *box) suspend(ctx context.Context, why string) (err error) {
	defer func() {
		switch l := b.machine(); {
		case err == nil:
			b.settle(ctx, lifecycle.StoodStill, why)
		case l != nil && l.Ended():
			b.diedWithin(ctx, err)
		default:
			b.unwatch()
			b.settle(ctx, lifecycle.Ended, "")
		}
	}()
	if b.used.Open() > 0 {
		return fault.New(fault.WrongState, "sandbox %s is in use", b.record().Name)
	}
	if _, err := b.guest(ctx); err != nil {
		return err
	}
	// What the network has for it from now on is not missed.
	if err = b.watch(); err == nil {
		err = b.m.Machines.Suspend(ctx, b.machine(), b.record().Size)
	}
	if err != nil {
		err = b.explain("suspend", err)
	}
	return err
}

// watch has the owner told of what the network has for the machine, until
// unwatch.
func (b *box) watch() (err error) {
	b.unwatch()
	watching, unwatch := context.WithCancel(b.m.life)
	b.unwatch = func() {
		b.knocked = nil
		unwatch()
	}
	b.knocked, err = b.machine().Knock(watching)
	return err
}

// answer has a machine go on that the network has something for.
func (b *box) answer(ctx context.Context) {
	if err := b.apply(ctx, job{event: lifecycle.Wake, run: b.goOn}); err != nil {
		b.log.WarnContext(ctx, "machine is not woken", "err", err)
	}
}

// goOn has a suspended machine go on. One whose agent does not answer runs then
// too, as one that has gone silent while it ran.
func (b *box) goOn(ctx context.Context) error {
	err := b.release(ctx)
	if err == nil {
		_, err = b.guest(ctx)
	}
	if err != nil {
		err = b.explain("wake", err)
	}
	return err
}

// rouse has a suspended machine go on if what is asked for needs that it runs, or
// may be that it should.
func (b *box) rouse(ctx context.Context, event lifecycle.Event) error {
	if b.record().State != lifecycle.Suspended {
		return nil
	}
	switch event {
	case lifecycle.Snapshot, lifecycle.Pause, lifecycle.Adjust:
		return b.apply(ctx, job{event: lifecycle.Wake, run: b.goOn})
	case lifecycle.Rollback: // it waits for no agent; programs stay frozen
		return b.apply(ctx, job{event: lifecycle.Wake, run: b.machine().VM.Continue})
	}
	return nil
}
