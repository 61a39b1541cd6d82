package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/use"
	"bulkhead/internal/vmm"
)

// guest returns the connection to the guest, made anew if it was lost.
func (b *box) guest(ctx context.Context) (live.Guest, error) {
	ctx, cancel := live.Patiently(ctx)
	defer cancel()
	select {
	case <-b.connecting:
		defer func() { b.connecting <- struct{}{} }()
	case <-ctx.Done():
		return nil, b.explain("reach", context.Cause(ctx))
	}
	if b.isLeaving() { // its end begins with the connection's
		return nil, b.errGone()
	}
	l, rec := b.machine(), b.record()
	if l == nil || rec.State.StandsStill() {
		return nil, fault.New(fault.WrongState, "sandbox %s is %s", rec.Name, rec.State).Hint("bulkhead inspect %s", rec.Name)
	}
	if l.Guest != nil {
		if l.Guest.Session().Err() == nil {
			return l.Guest, nil
		}
		l.Guest.Close()
	}
	g, err := b.m.Machines.Greet(ctx, l.VM)
	if err != nil {
		return nil, b.explain("reach", err)
	}
	if !b.adopt(l.VM, g) {
		g.Close()
		return nil, fault.New(fault.WrongState, "sandbox %s has stopped", rec.Name)
	}
	return g, nil
}

// Life is closed when the machine that a sandbox has now ends, for whatever
// reason; nil if it has none.
func (m *Manager) Life(ref string) (<-chan struct{}, error) {
	b, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	return b.vmDone(), nil
}

// attended returns the way to the guest's services.
func (b *box) attended(ctx context.Context) (*live.Attended, error) {
	g, err := b.guest(ctx)
	if err != nil {
		return nil, err
	}
	return live.Attend(g, func() bool { return b.record().State.StandsStill() }), nil
}

// adopt makes g the connection to the guest, if vm still is the machine.
func (b *box) adopt(vm vmm.Machine, g live.Guest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.live == nil || b.live.VM != vm {
		return false
	}
	b.live = b.live.With(g)
	b.logEnd(g)
	return true
}

// logEnd will log why a session ended. If we or the VMM ended it, that is told
// by itself.
func (b *box) logEnd(g live.Guest) {
	context.AfterFunc(g.Session(), func() {
		err, level := context.Cause(g.Session()), slog.LevelWarn
		if errors.Is(err, context.Canceled) || errors.Is(err, io.EOF) {
			level = slog.LevelDebug
		}
		b.log.Log(context.Background(), level, "guest session ended", "err", err)
	})
}

// explain says what was tried. If an agent does not answer it also says what
// helps, which is nothing that needs the agent.
func (b *box) explain(op string, err error) error {
	rec := b.record()
	if !errors.Is(err, live.ErrSilent) {
		return fmt.Errorf("%s sandbox %s: %w", op, rec.Name, err)
	}
	hint := "bulkhead rm " + rec.Name
	if rec.Head != "" {
		hint = wayBack(rec)
	}
	return fault.New(fault.Unavailable, "%s sandbox %s: %w", op, rec.Name, err).Hint("%s", hint)
}

// transport is the way to a guest's services.
type transport struct {
	*box
	attended *live.Attended
}

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	done := t.used.Begin()
	resp, err := t.attended.RoundTrip(r)
	if errors.Is(err, live.ErrSilent) {
		err = t.explain("reach", err)
	}
	if err != nil {
		done()
		return nil, err
	}
	resp.Body = use.Until(resp.Body, done)
	return resp, nil
}
