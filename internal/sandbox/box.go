package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/use"
	"bulkhead/internal/vmm"
)

// box is one sandbox and the goroutine that owns it. Only that goroutine
// changes rec and live; mu lets others read them meanwhile.
type box struct {
	m   *Manager
	log *slog.Logger

	queue chan job
	// gone is closed when nothing is left of the sandbox.
	gone chan struct{}
	// connecting holds a token for whoever opens the connection to the guest.
	connecting chan struct{}

	mu   sync.Mutex
	rec  Record        // guarded by mu
	live *live.Machine // guarded by mu; nil while no VMM runs
	// cancel ends what is under way; guarded by mu, nil if nothing is that may
	// be interrupted.
	cancel context.CancelFunc
	// leaving counts the removals that wait; guarded by mu.
	leaving int

	// first is what the owner begins with; nil for nothing.
	first func(context.Context)

	// knocked is closed when the network has something for a suspended machine;
	// unwatch ends the wait for it. Only the owner uses them.
	knocked <-chan struct{}
	unwatch context.CancelFunc

	// latest is when the newest snapshot was taken, nil until that is known;
	// guarded by mu.
	latest *time.Time

	// used counts what is asked of the guest.
	used use.Count

	// keeping has those who make a snapshot of what a rollback left. Only the
	// owner adds to it and waits for it.
	keeping sync.WaitGroup
	// kept is closed once the latest of them has done so; nil before the first;
	// guarded by mu.
	kept <-chan struct{}
}

// job is one request to the owner.
type job struct {
	event lifecycle.Event
	// reason says why, for what nobody has asked for.
	reason string
	// fits says at its turn whether it is still to be done; nil for always. What
	// was so when it was asked for may not be any more.
	fits func(Record) error
	// run does it; nil for what is done once fits was asked, whatever the state.
	run  func(context.Context) error
	done chan error // receives exactly one value; buffered
}

func newBox(m *Manager, rec Record, l *live.Machine) *box {
	b := &box{
		m: m, log: m.Log.With("sandbox", string(rec.ID)),
		queue: make(chan job), gone: make(chan struct{}),
		connecting: make(chan struct{}, 1), rec: rec, live: l, unwatch: func() {},
	}
	b.connecting <- struct{}{}
	return b
}

// serve applies requests and the end of the VMM in the order in which they
// come, until the sandbox is gone or ctx ends. It leaves the VMM running.
func (b *box) serve(ctx context.Context) {
	if b.first != nil {
		b.first(ctx)
	}
	for {
		select {
		case j := <-b.queue:
			j.done <- b.apply(ctx, j)
		case <-b.vmDone():
			b.exited(ctx)
		case <-b.knocked:
			b.answer(ctx)
		case <-ctx.Done():
			b.disconnect()
			return
		}
		if b.record().State == lifecycle.Gone {
			close(b.gone)
			return
		}
	}
}

// do hands a request to the owner and waits for its outcome. If ctx ends
// meanwhile, the request goes on without its caller.
func (b *box) do(ctx context.Context, event lifecycle.Event, run func(context.Context) error) error {
	return b.hand(ctx, job{event: event, run: run})
}

func (b *box) hand(ctx context.Context, j job) error {
	j.done = make(chan error, 1)
	select {
	case b.queue <- j:
	case <-b.gone:
		return b.errGone()
	case <-b.m.closing:
		return fault.New(fault.Unavailable, "daemon is shutting down")
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *box) apply(ctx context.Context, j job) error {
	if j.fits != nil {
		if err := j.fits(b.record()); err != nil {
			return err
		}
	}
	if j.run == nil {
		return nil
	}
	if err := b.room(ctx, j.event); err != nil {
		return err
	}
	if err := b.rouse(ctx, j.event); err != nil {
		return err
	}
	if err := b.transition(ctx, j.event, j.reason); err != nil {
		return err
	}
	if j.event == lifecycle.Remove {
		return j.run(ctx)
	}
	return b.interruptible(ctx, j.run)
}

// room refuses what the host has no room for. A rollback is never refused: it is
// the way out.
func (b *box) room(ctx context.Context, event lifecycle.Event) error {
	rec := b.record()
	switch event {
	case lifecycle.Snapshot:
		return b.about("snapshot", b.history().Admit(ctx, b.m.Limits, b.poolID()))
	case lifecycle.Start, lifecycle.Restart, lifecycle.Resume:
		if !rec.State.Live() {
			return b.about(string(event), b.m.RoomFor(rec.Size))
		}
	}
	return nil
}

// about says which sandbox an error is about; nil stays nil.
func (b *box) about(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s sandbox %s: %w", op, b.record().Name, err)
}

// interruptible calls f with a context that a removal ends.
func (b *box) interruptible(life context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(life)
	defer cancel()
	b.mu.Lock()
	b.cancel = cancel
	if b.leaving > 0 {
		cancel()
	}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.cancel = nil
		b.mu.Unlock()
	}()
	err := f(ctx)
	if err != nil && ctx.Err() != nil && life.Err() == nil {
		return fault.New(fault.WrongState, "sandbox %s is being removed: %w", b.record().Name, err)
	}
	return err
}

// interrupt cancels what is under way, what will be before the caller's turn,
// and whatever waits for the guest, so that a removal waits neither for a boot
// nor for an agent. The caller calls done after its turn.
func (b *box) interrupt() (done func()) {
	b.mu.Lock()
	b.leaving++
	if b.cancel != nil {
		b.cancel()
	}
	b.mu.Unlock()
	b.disconnect()
	return func() {
		b.mu.Lock()
		b.leaving--
		b.mu.Unlock()
	}
}

// isLeaving reports whether a removal waits or is under way.
func (b *box) isLeaving() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.leaving > 0
}

// transition applies an event to the state, stores it and records it.
func (b *box) transition(ctx context.Context, event lifecycle.Event, reason string) error {
	b.mu.Lock()
	from := b.rec.State
	to, err := lifecycle.Next(from, event)
	if err != nil {
		b.mu.Unlock()
		return b.refused(err)
	}
	b.rec.State, b.rec.Reason = to, reason
	if event == lifecycle.Started {
		b.rec.Started, b.rec.Returns = b.m.Clock(), false
	}
	rec := b.rec
	b.mu.Unlock()
	if from == lifecycle.Suspended && to != from {
		b.unwatch()
	}

	b.log.InfoContext(ctx, "state changed", "op", string(event), "from", string(from), "to", string(to), "reason", reason)
	fields := map[string]string{"from": string(from), "to": string(to), "name": rec.Name}
	if reason != "" {
		fields["reason"] = reason
	}
	b.m.Events.Append(ctx, "sandbox."+string(event), string(rec.ID), fields)
	if to == lifecycle.Gone {
		return nil
	}
	return b.m.Store.Save(context.WithoutCancel(ctx), rec)
}

// settle applies an event that happened rather than was asked for. What it
// cannot store is logged: the next daemon will find out for itself.
func (b *box) settle(ctx context.Context, event lifecycle.Event, reason string) {
	if err := b.transition(ctx, event, reason); err != nil {
		b.log.ErrorContext(ctx, "state not recorded", "op", string(event), "err", err)
	}
}

func (b *box) refused(err error) error {
	rec := b.record()
	var r *lifecycle.RefusedError
	if !errors.As(err, &r) {
		return err
	}
	f := fault.New(fault.WrongState, "sandbox %s: %w", rec.Name, err)
	switch {
	case r.Event == lifecycle.Start:
		return fault.New(fault.WrongState, "sandbox %s is %s already", rec.Name, r.State)
	case r.State.Down():
		return f.Hint("%s", wayBack(rec))
	}
	return f.Hint("bulkhead inspect %s", rec.Name)
}

func wayBack(rec Record) string { return lifecycle.WayBack(rec.State, rec.Name, string(rec.Head)) }

// exited records the end of the VMM, and starts the machine again if it was
// the guest that asked for a reboot.
func (b *box) exited(ctx context.Context) {
	l := b.take()
	if l == nil {
		return
	}
	exit := l.VM.Exit()
	l.Disconnect()
	switch exit.Cause {
	case vmm.PoweredOff:
		b.settle(ctx, lifecycle.PoweredOff, exit.Reason)
	case vmm.Rebooted:
		b.settle(ctx, lifecycle.Rebooted, exit.Reason)
		if err := b.interruptible(ctx, b.start); err != nil {
			b.log.WarnContext(ctx, "guest did not come back from its reboot", "err", err)
		}
	default:
		b.settle(ctx, lifecycle.Died, exit.Reason)
	}
}

// take returns the machine and forgets it.
func (b *box) take() *live.Machine {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.live
	b.live = nil
	return l
}

func (b *box) put(l *live.Machine) {
	b.mu.Lock()
	b.live = l
	b.mu.Unlock()
	b.logEnd(l.Guest)
}

func (b *box) disconnect() {
	if l := b.machine(); l != nil {
		l.Disconnect()
	}
}

func (b *box) record() Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rec
}

func (b *box) machine() *live.Machine {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.live
}

func (b *box) vmDone() <-chan struct{} {
	if l := b.machine(); l != nil {
		return l.VM.Done()
	}
	return nil
}

func (b *box) errGone() error {
	return fault.New(fault.NotFound, "sandbox %s has been removed", b.record().Name).Hint("bulkhead ls")
}

func (b *box) poolID() pool.MachineID { return pool.MachineID(b.record().ID) }
