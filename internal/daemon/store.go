package daemon

import (
	"context"
	"encoding/json"
	"fmt"

	"bulkhead/internal/journal"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/template"
	"bulkhead/internal/sqlite"
)

// records is the heart's Store on the database.
type records struct{ rows sqlite.Sandboxes }

// recordSpec is what a row keeps as JSON: nothing searches for it.
type recordSpec struct {
	Identity sandbox.Identity  `json:"identity"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

func (r records) Save(ctx context.Context, rec sandbox.Record) error {
	spec, err := json.Marshal(recordSpec{rec.Identity, rec.Metadata})
	if err != nil {
		return fmt.Errorf("encode sandbox %s: %w", rec.ID, err)
	}
	return r.rows.Save(ctx, sqlite.SandboxRow{
		ID: string(rec.ID), Name: rec.Name, Template: rec.Template,
		State: string(rec.State), Reason: rec.Reason,
		Created: rec.Created, Started: rec.Started,
		CPUs: rec.Size.CPUs, MemoryMiB: rec.Size.MemoryMiB, DiskMiB: rec.DiskMiB,
		Head: string(rec.Head), Spec: spec,
	})
}

func (r records) Delete(ctx context.Context, id sandbox.ID) error {
	return r.rows.Delete(ctx, string(id))
}

func (r records) List(ctx context.Context) ([]sandbox.Record, error) {
	rows, err := r.rows.List(ctx)
	if err != nil {
		return nil, err
	}
	recs := make([]sandbox.Record, 0, len(rows))
	for _, row := range rows {
		var spec recordSpec
		if err := json.Unmarshal(row.Spec, &spec); err != nil {
			return nil, fmt.Errorf("decode sandbox %s: %w", row.ID, err)
		}
		recs = append(recs, sandbox.Record{
			ID: sandbox.ID(row.ID), Name: row.Name, Template: row.Template,
			State: lifecycle.State(row.State), Reason: row.Reason,
			Created: row.Created, Started: row.Started,
			Size: live.Size{CPUs: row.CPUs, MemoryMiB: row.MemoryMiB}, DiskMiB: row.DiskMiB,
			Head: pool.SnapshotID(row.Head), Identity: spec.Identity, Metadata: spec.Metadata,
		})
	}
	return recs, nil
}

// templates is the template builder's Store on the database.
type templates struct{ rows sqlite.Templates }

func (t templates) SaveTemplate(ctx context.Context, tpl template.Template) error {
	spec, err := json.Marshal(tpl)
	if err != nil {
		return fmt.Errorf("encode template %s: %w", tpl.Name, err)
	}
	return t.rows.Save(ctx, sqlite.TemplateRow{
		Name: tpl.Name, Snapshot: string(tpl.Snapshot), Created: tpl.Created, Spec: spec,
	})
}

func (t templates) DeleteTemplate(ctx context.Context, name string) error {
	return t.rows.Delete(ctx, name)
}

func (t templates) Templates(ctx context.Context) ([]template.Template, error) {
	rows, err := t.rows.List(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]template.Template, 0, len(rows))
	for _, row := range rows {
		var tpl template.Template
		if err := json.Unmarshal(row.Spec, &tpl); err != nil {
			return nil, fmt.Errorf("decode template %s: %w", row.Name, err)
		}
		all = append(all, tpl)
	}
	return all, nil
}

// machines is the runner's Journal: the processes of machines, found again by
// their run directory.
type machines struct{ journal *journal.Journal }

func (m machines) Begin(ctx context.Context, owner, runDir string) error {
	_, err := m.journal.Begin(ctx, journal.Entry{Kind: journal.Process, Owner: owner, Ident: runDir})
	return err
}

func (m machines) End(ctx context.Context, owner string) error {
	return m.journal.EndAll(ctx, journal.Process, owner)
}

func (m machines) Owners(ctx context.Context) (owners []string, err error) {
	pending, err := m.journal.Pending(ctx)
	for _, e := range pending {
		if e.Kind == journal.Process {
			owners = append(owners, e.Owner)
		}
	}
	return owners, err
}
