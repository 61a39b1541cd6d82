package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/look"
	"bulkhead/internal/sandbox/template"
)

// Recover takes over what an earlier daemon left: running machines are
// attached to, half-made ones removed, dead ones marked with the reason, and
// whatever no record names is released. Machines that were paused as the host went
// down are marked as such. It is called once, before anything else.
func (m *Manager) Recover(ctx context.Context, hostRestarted bool) error {
	recs, err := m.Store.List(ctx)
	if err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	snaps, err := m.Machines.Pool.Snapshots()
	if err != nil {
		return err
	}
	known := map[ID]bool{}
	for _, rec := range recs {
		was := rec.State
		err := m.settleHistory(ctx, &rec, snaps)
		if err == nil {
			// A pause that the host's end came into was for that.
			rec.Returns = rec.Returns || hostRestarted && rec.State != was
			known[rec.ID], err = m.recoverOne(ctx, rec, was)
		}
		if err != nil {
			return fmt.Errorf("recover sandbox %s: %w", rec.ID, err)
		}
	}
	if err := m.sweep(ctx, known); err != nil {
		return err
	}
	m.owners.Go(m.guardRoom)
	return nil
}

// endedUnseen is the reason of a crash that nobody has seen.
const endedUnseen = "VMM ended while no daemon ran"

// EndedUnseen reports whether a machine has ended while no daemon ran, as all do
// with the host.
func (r Record) EndedUnseen() bool { return r.State == lifecycle.Crashed && r.Reason == endedUnseen }

// recoverOne takes over a sandbox that was in a state, and reports whether it
// still exists afterwards.
func (m *Manager) recoverOne(ctx context.Context, rec Record, was lifecycle.State) (bool, error) {
	log := m.Log.With("sandbox", string(rec.ID))
	l, reason, err := m.reattach(ctx, rec)
	if err != nil {
		return false, err
	}
	rec.State = rec.State.Interrupted(l != nil)
	if rec.State == lifecycle.Gone {
		log.InfoContext(ctx, "removed what was half made", "from", string(was))
		return false, m.discard(ctx, rec.ID)
	}
	if rec.State == lifecycle.Crashed && was != lifecycle.Crashed {
		rec.Reason = reason
	}
	if rec.State != lifecycle.Running && rec.State != lifecycle.Suspended {
		// A restore that was never confirmed may still have a VMM, and so may a
		// machine that was written out; what has crashed has a network.
		if err := m.Machines.Reap(ctx, pool.MachineID(rec.ID)); err != nil {
			return true, err
		}
		l = nil
	}
	if err := m.Store.Save(ctx, rec); err != nil {
		return true, err
	}
	b := newBox(m, rec, l)
	m.mu.Lock()
	m.boxes[rec.ID] = b
	m.mu.Unlock()
	if rec.State != was {
		m.Events.Append(ctx, "sandbox.recovered", string(rec.ID), map[string]string{
			"from": string(was), "to": string(rec.State), "name": rec.Name, "reason": rec.Reason,
		})
	}
	if rec.State == lifecycle.Suspended {
		if err := b.watch(); err != nil {
			return true, err
		}
	}
	if rec.State == lifecycle.Running {
		b.first = func(ctx context.Context) { b.thaw(ctx, log.With("op", "recover")) }
	}
	m.own(b)
	return true, nil
}

// settleHistory finishes what was under way with the snapshots of a sandbox: one
// that was committed is what the machine goes on from, one that a pause has
// committed is the machine, which did not run after it, and one that was taken
// for a fork is of no more use.
func (m *Manager) settleHistory(ctx context.Context, rec *Record, all []pool.Snapshot) error {
	snaps := slices.DeleteFunc(slices.Clone(all), func(s pool.Snapshot) bool { return s.Sandbox != string(rec.ID) })
	for _, s := range snaps {
		// Since the machine began to run, every snapshot was of it; what a
		// rollback left is of the one before.
		if s.Parent == rec.Head && s.Created.After(rec.Started) && s.Cause != CauseBeforeRollback {
			rec.Head = s.ID
			if s.Cause == causePause && rec.State == lifecycle.Pausing {
				rec.State, rec.Stay = lifecycle.Paused, false
			}
		}
	}
	for _, s := range slices.Backward(snaps) {
		if s.Cause != causeFork {
			continue
		}
		if rec.Head == s.ID {
			rec.Head = s.Parent
		}
		if err := m.Store.Save(ctx, *rec); err != nil { // before what it must not name any more goes
			return err
		}
		if err := m.Machines.Pool.RemoveSnapshot(ctx, s.ID); err != nil {
			return err
		}
	}
	if rec.Head == "" || rec.State == lifecycle.Paused { // it is then told what it lacks
		return nil
	}
	if !slices.ContainsFunc(all, func(s pool.Snapshot) bool { return s.ID == rec.Head }) { // damaged ones are among them
		rec.Head = "" // it was removed by a daemon that kept the record
	}
	return nil
}

// reattach returns the machine of a sandbox that should have one, or why
// there is none.
func (m *Manager) reattach(ctx context.Context, rec Record) (*live.Machine, string, error) {
	if !rec.State.Live() {
		return nil, "", nil
	}
	if _, err := m.Machines.Pool.Machine(pool.MachineID(rec.ID)); err != nil {
		return nil, "its files are not in the pool: " + err.Error(), nil
	}
	machine, err := m.Machines.Attach(ctx, pool.MachineID(rec.ID), rec.Size)
	switch {
	case errors.Is(err, os.ErrProcessDone):
		if s := rec.State.Interrupted(true); s == lifecycle.Running || s == lifecycle.Suspended {
			return nil, endedUnseen, nil
		}
		return nil, fmt.Sprintf("daemon ended while %s", rec.State), nil
	case err != nil:
		return nil, "", err
	}
	return machine, fmt.Sprintf("daemon ended while %s", rec.State), nil
}

// thaw continues a machine that the last daemon may have left stopped or
// frozen in the middle of a snapshot. Its owner begins with that: to go on is
// wrong in the middle of anything else. Nobody waits for the agent.
func (b *box) thaw(ctx context.Context, log *slog.Logger) {
	l := b.machine()
	if l == nil {
		return
	}
	if err := errors.Join(l.VM.Balloon(ctx, b.record().Size.MemoryMiB), l.VM.Continue(ctx)); err != nil {
		log.WarnContext(ctx, "machine not continued", "err", err)
		return
	}
	b.m.owners.Go(func() {
		if _, err := b.guest(ctx); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "guest does not answer", "err", err)
		}
	})
}

// sweep has released what interrupted builds and looks left. Whatever
// else no record names is left alone and reported: records come before things
// and go after them, so it can only mean that records were lost, and then the
// pool is all that is left.
func (m *Manager) sweep(ctx context.Context, known map[ID]bool) error {
	machines, err := m.Machines.Found(ctx)
	if err != nil {
		return err
	}
	for _, id := range machines {
		if !known[ID(id)] && !template.Owns(id) && !look.Owns(id) {
			m.Log.ErrorContext(ctx, "machine without a record left alone", "sandbox", string(id))
		}
	}
	if err := (look.Looker{Machines: m.Machines}).Sweep(ctx, machines); err != nil {
		return err
	}
	return m.Templates.Sweep(ctx, machines)
}
