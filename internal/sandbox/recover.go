package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/lifecycle"
)

// Recover takes over what an earlier daemon left: running machines are
// attached to, half-made ones removed, dead ones marked with the reason, and
// whatever no record names is released. It is called once, before anything
// else.
func (m *Manager) Recover(ctx context.Context) error {
	recs, err := m.Store.List(ctx)
	if err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	known := map[ID]bool{}
	for _, rec := range recs {
		kept, err := m.recoverOne(ctx, rec)
		if err != nil {
			return fmt.Errorf("recover sandbox %s: %w", rec.ID, err)
		}
		known[rec.ID] = kept
	}
	return m.sweep(ctx, known)
}

// recoverOne reports whether the sandbox still exists afterwards.
func (m *Manager) recoverOne(ctx context.Context, rec Record) (bool, error) {
	log := m.Log.With("sandbox", string(rec.ID))
	l, reason, err := m.reattach(ctx, rec)
	if err != nil {
		return false, err
	}
	was := rec.State
	rec.State = was.Interrupted(l != nil)
	if rec.State == lifecycle.Gone {
		log.InfoContext(ctx, "removed what was half made", "from", string(was))
		return false, m.discard(ctx, rec.ID)
	}
	if rec.State == lifecycle.Crashed {
		if was != lifecycle.Crashed {
			rec.Reason = reason
		}
		// A restore that was never confirmed may still have a VMM.
		if err := m.Driver.Reap(ctx, m.runDir(string(rec.ID))); err != nil {
			return true, err
		}
		l = nil
	}
	if err := m.Store.Save(ctx, rec); err != nil {
		return true, err
	}
	if rec.State != was {
		m.Events.Append(ctx, "sandbox.recovered", rec.ID, map[string]string{
			"from": string(was), "to": string(rec.State), "name": rec.Name, "reason": rec.Reason,
		})
	}
	b := newBox(m, rec, l)
	m.mu.Lock()
	m.boxes[rec.ID] = b
	m.mu.Unlock()
	m.own(b)
	if l != nil {
		m.owners.Go(func() { b.thaw(log.With("op", "recover")) })
	}
	return true, nil
}

// reattach returns the machine of a sandbox that should have one, or why
// there is none.
func (m *Manager) reattach(ctx context.Context, rec Record) (*live, string, error) {
	if !rec.State.Live() {
		return nil, "", nil
	}
	_, spec, err := m.prepareRun(rec)
	if err != nil {
		return nil, "its files are not in the pool: " + err.Error(), nil
	}
	vm, err := m.Driver.Attach(ctx, spec)
	switch {
	case errors.Is(err, os.ErrProcessDone):
		if rec.State == lifecycle.Running || rec.State == lifecycle.Snapshotting {
			return nil, "VMM ended while no daemon ran", nil
		}
		return nil, fmt.Sprintf("daemon ended while %s", rec.State), nil
	case err != nil:
		return nil, "", err
	}
	return &live{vm: vm}, fmt.Sprintf("daemon ended while %s", rec.State), nil
}

// thaw continues a machine that the last daemon may have left stopped or
// frozen in the middle of a snapshot.
func (b *box) thaw(log *slog.Logger) {
	ctx := b.m.life
	l := b.machine()
	if l == nil {
		return
	}
	if err := l.vm.Continue(ctx); err != nil {
		log.WarnContext(ctx, "machine not continued", "err", err)
		return
	}
	if _, err := b.guest(ctx); err != nil && ctx.Err() == nil {
		log.WarnContext(ctx, "guest does not answer", "err", err)
	}
}

// sweep releases what a build left: its machine, its VMM, and a snapshot that
// no template names yet. Whatever else no record names is left alone and
// reported: records come before things and go after them, so it can only mean
// that records were lost, and then the pool is all that is left.
func (m *Manager) sweep(ctx context.Context, known map[ID]bool) error {
	entries, err := os.ReadDir(m.RunDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read run directories: %w", err)
	}
	machines, err := m.Pool.Machines()
	if err != nil {
		return err
	}
	found := map[string]bool{}
	for _, e := range entries {
		found[e.Name()] = true
	}
	for _, id := range machines {
		found[string(id)] = true
	}
	for id := range found {
		switch {
		case known[ID(id)]:
		case strings.HasPrefix(id, buildPrefix):
			m.Log.InfoContext(ctx, "removed what a build left", "sandbox", id)
			if err := m.discardBuild(ctx, id); err != nil {
				return err
			}
		default:
			m.Log.ErrorContext(ctx, "machine without a record left alone", "sandbox", id)
		}
	}
	return m.sweepTemplates(ctx)
}

func (m *Manager) sweepTemplates(ctx context.Context) error {
	templates, err := m.Templates.Templates(ctx)
	if err != nil {
		return fmt.Errorf("read templates: %w", err)
	}
	used := map[pool.SnapshotID]bool{}
	for _, t := range templates {
		used[t.Snapshot] = true
	}
	snaps, err := m.Pool.Snapshots()
	if err != nil {
		return err
	}
	for _, s := range snaps {
		if s.Cause == CauseTemplate && !used[s.ID] {
			m.Log.InfoContext(ctx, "removed an unused template snapshot", "snapshot", string(s.ID))
			if err := m.Pool.RemoveSnapshot(ctx, s.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
