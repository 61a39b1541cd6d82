package sqlite

import (
	"context"
	"fmt"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/journal"
)

// SandboxRow is what is stored of a sandbox.
type SandboxRow struct {
	// ID is the key. Name is unique among the rows of a team, unless it is empty.
	ID, Team, Name, Template, State, Reason string
	// Created and Started keep nanoseconds and come back in UTC; the zero
	// time stays zero.
	Created, Started         time.Time
	CPUs, MemoryMiB, DiskMiB int
	Head                     string
	// Spec is JSON of the caller's, kept as it is. Empty comes back as nil.
	Spec []byte
}

// Sandboxes is the table of sandboxes.
type Sandboxes struct{ db *DB }

// Sandboxes returns the table of sandboxes.
func (d *DB) Sandboxes() Sandboxes { return Sandboxes{d} }

// Save stores r, replacing the row of the same ID. A name that another row
// has is a fault.Exists error.
func (s Sandboxes) Save(ctx context.Context, r SandboxRow) error {
	err := s.db.exec(ctx, `INSERT INTO sandboxes
		(id, team, name, template, state, reason, created, started, cpus, memory_mib, disk_mib, head, spec)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET team = excluded.team, name = excluded.name, template = excluded.template,
		state = excluded.state, reason = excluded.reason, created = excluded.created,
		started = excluded.started, cpus = excluded.cpus, memory_mib = excluded.memory_mib,
		disk_mib = excluded.disk_mib, head = excluded.head, spec = excluded.spec`,
		r.ID, r.Team, r.Name, r.Template, r.State, r.Reason, nanos(r.Created), nanos(r.Started),
		r.CPUs, r.MemoryMiB, r.DiskMiB, r.Head, blob(r.Spec))
	if isDuplicate(err, "sandboxes.name") {
		return fault.New(fault.Exists, "sandbox %s exists already", r.Name).
			Hint("choose another name, or: bulkhead rm %s", r.Name)
	}
	if err != nil {
		return fmt.Errorf("save sandbox %s: %w", r.ID, err)
	}
	return nil
}

// Delete removes the row of id; there being none is no error.
func (s Sandboxes) Delete(ctx context.Context, id string) error {
	if err := s.db.exec(ctx, `DELETE FROM sandboxes WHERE id = ?`, id); err != nil {
		return fmt.Errorf("delete sandbox %s: %w", id, err)
	}
	return nil
}

// List returns every row, oldest first.
func (s Sandboxes) List(ctx context.Context) ([]SandboxRow, error) {
	rows, err := list(ctx, s.db, `SELECT id, team, name, template, state, reason, created, started,
		cpus, memory_mib, disk_mib, head, spec FROM sandboxes ORDER BY created, id`, scanSandbox)
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	return rows, nil
}

func scanSandbox(scan func(...any) error) (r SandboxRow, err error) {
	var created, started int64
	err = scan(&r.ID, &r.Team, &r.Name, &r.Template, &r.State, &r.Reason, &created, &started,
		&r.CPUs, &r.MemoryMiB, &r.DiskMiB, &r.Head, &r.Spec)
	r.Created, r.Started = fromNanos(created), fromNanos(started)
	return r, err
}

// TemplateRow is what is stored of a template.
type TemplateRow struct {
	// Name is the key.
	Name     string
	Snapshot string
	// Created keeps nanoseconds and comes back in UTC.
	Created time.Time
	// Spec is JSON of the caller's, kept as it is. Empty comes back as nil.
	Spec []byte
}

// Templates is the table of templates.
type Templates struct{ db *DB }

// Templates returns the table of templates.
func (d *DB) Templates() Templates { return Templates{d} }

// Save stores r, replacing the row of the same name.
func (t Templates) Save(ctx context.Context, r TemplateRow) error {
	err := t.db.exec(ctx, `INSERT INTO templates (name, snapshot, created, spec) VALUES (?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET snapshot = excluded.snapshot,
		created = excluded.created, spec = excluded.spec`,
		r.Name, r.Snapshot, nanos(r.Created), blob(r.Spec))
	if err != nil {
		return fmt.Errorf("save template %s: %w", r.Name, err)
	}
	return nil
}

// Delete removes the row of name; there being none is no error.
func (t Templates) Delete(ctx context.Context, name string) error {
	if err := t.db.exec(ctx, `DELETE FROM templates WHERE name = ?`, name); err != nil {
		return fmt.Errorf("delete template %s: %w", name, err)
	}
	return nil
}

// List returns every row by name.
func (t Templates) List(ctx context.Context) ([]TemplateRow, error) {
	rows, err := list(ctx, t.db, `SELECT name, snapshot, created, spec FROM templates ORDER BY name`, scanTemplate)
	if err != nil {
		return nil, fmt.Errorf("list templates: %w", err)
	}
	return rows, nil
}

func scanTemplate(scan func(...any) error) (r TemplateRow, err error) {
	var created int64
	err = scan(&r.Name, &r.Snapshot, &created, &r.Spec)
	r.Created = fromNanos(created)
	return r, err
}

// blob stands in for a nil slice, which the driver would store as NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Journal is the table of the journal. It implements journal.Store.
type Journal struct{ db *DB }

// Journal returns the table of the journal.
func (d *DB) Journal() Journal { return Journal{d} }

// Add implements journal.Store.
func (j Journal) Add(ctx context.Context, e journal.Entry) (id int64, err error) {
	// An update that changes nothing makes RETURNING answer for a row that
	// exists already, too.
	err = j.db.sql.QueryRowContext(ctx, `INSERT INTO journal (kind, owner, ident) VALUES (?, ?, ?)
		ON CONFLICT (kind, owner, ident) DO UPDATE SET kind = excluded.kind RETURNING id`,
		string(e.Kind), e.Owner, e.Ident).Scan(&id)
	return id, classify(err)
}

// Remove implements journal.Store.
func (j Journal) Remove(ctx context.Context, id int64) error {
	return j.db.exec(ctx, `DELETE FROM journal WHERE id = ?`, id)
}

// List implements journal.Store.
func (j Journal) List(ctx context.Context) ([]journal.Entry, error) {
	return list(ctx, j.db, `SELECT id, kind, owner, ident FROM journal ORDER BY id`, scanEntry)
}

func scanEntry(scan func(...any) error) (e journal.Entry, err error) {
	err = scan(&e.ID, &e.Kind, &e.Owner, &e.Ident)
	return e, err
}
