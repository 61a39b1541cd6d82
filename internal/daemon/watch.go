package daemon

import (
	"context"
	"slices"

	"bulkhead/internal/daemon/front"
	"bulkhead/internal/daemon/store"
	"bulkhead/internal/guest"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/watchdog"
)

// watched is what the watchdog watches.
type watched struct {
	*heart
	events store.Events
}

func (w watched) Watched(context.Context) []watchdog.Watched {
	var all []watchdog.Watched
	for _, s := range w.List() {
		one := watchdog.Watched{ID: string(s.ID), Remedy: s.Schedule.Remedy}
		switch s.State {
		case lifecycle.Running:
		case lifecycle.Crashed:
			one.Crashed = s.Reason
		default:
			continue
		}
		all = append(all, one)
	}
	return all
}

func (w watched) Pulse(ctx context.Context, id string) (string, error) {
	transport, err := w.Probe(ctx, id)
	if err != nil {
		return "", err
	}
	return guest.Pulse(ctx, transport)
}

// Pasts leaves out what rollbacks have left: that was given up already.
func (w watched) Pasts(_ context.Context, id string) ([]watchdog.Past, error) {
	_, snaps, err := w.Timeline(id)
	var all []watchdog.Past
	for _, s := range slices.Backward(snaps) {
		if s.Cause != sandbox.CauseBeforeRollback && s.Damage == "" {
			all = append(all, watchdog.Past{ID: string(s.ID), Taken: s.Created})
		}
	}
	return all, err
}

func (w watched) Reboot(ctx context.Context, id string) error {
	_, err := w.Restart(ctx, id)
	return err
}

func (w watched) Rollback(ctx context.Context, id, snapshot string) error {
	_, err := w.Manager.Rollback(ctx, id, snapshot, false)
	return err
}

// Tell adds the end of the console to what is found.
func (w watched) Tell(ctx context.Context, typ, id string, fields map[string]string) {
	if typ == watchdog.Found {
		if dir, err := w.Console(id); err == nil {
			fields["console"] = front.ConsoleTail(dir)
		}
	}
	w.events.Append(ctx, typ, id, fields)
}
