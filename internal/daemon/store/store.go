// Package store has the heart's contracts on what the host has for them: records
// and templates in its database, events in its log, images by its builder, and
// in the journal what may run.
//
// It translates and decides nothing.
package store

import (
	"context"
	"encoding/json"
	"fmt"

	"bulkhead/internal/journal"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/lease"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/schedule"
	"bulkhead/internal/sandbox/template"
	"bulkhead/internal/sqlite"
)

// Records is the heart's Store on the database.
type Records struct{ Rows sqlite.Sandboxes }

// recordSpec is what a row keeps as JSON: nothing searches for it.
type recordSpec struct {
	Identity sandbox.Identity  `json:"identity"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Stay     bool              `json:"stay,omitempty"`
	Returns  bool              `json:"returns,omitempty"`
	Cold     bool              `json:"cold,omitempty"`
	Lease    *lease.Lease      `json:"lease,omitempty"`
	Asked    json.RawMessage   `json:"asked,omitempty"`
	Request  string            `json:"request,omitempty"`
	Schedule schedule.Schedule `json:"schedule,omitzero"`
	Ingress  sandbox.Ingress   `json:"ingress,omitzero"`
}

// Save implements the heart's contract.
func (r Records) Save(ctx context.Context, rec sandbox.Record) error {
	spec, err := json.Marshal(recordSpec{
		Identity: rec.Identity, Metadata: rec.Metadata, Stay: rec.Stay, Returns: rec.Returns, Cold: rec.Cold,
		Lease: rec.Lease, Asked: rec.Asked, Request: rec.Request, Schedule: rec.Schedule, Ingress: rec.Ingress,
	})
	if err != nil {
		return fmt.Errorf("encode sandbox %s: %w", rec.ID, err)
	}
	return r.Rows.Save(ctx, sqlite.SandboxRow{
		ID: string(rec.ID), Team: rec.Team, Name: rec.Name, Template: rec.Template,
		State: string(rec.State), Reason: rec.Reason,
		Created: rec.Created, Started: rec.Started,
		CPUs: rec.Size.CPUs, MemoryMiB: rec.Size.MemoryMiB, DiskMiB: rec.DiskMiB,
		Head: string(rec.Head), Spec: spec,
	})
}

// Delete implements the heart's contract.
func (r Records) Delete(ctx context.Context, id sandbox.ID) error {
	return r.Rows.Delete(ctx, string(id))
}

// List implements the heart's contract.
func (r Records) List(ctx context.Context) ([]sandbox.Record, error) {
	rows, err := r.Rows.List(ctx)
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
			ID: sandbox.ID(row.ID), Team: row.Team, Name: row.Name, Template: row.Template,
			State: lifecycle.State(row.State), Reason: row.Reason,
			Created: row.Created, Started: row.Started,
			Size: live.Size{CPUs: row.CPUs, MemoryMiB: row.MemoryMiB}, DiskMiB: row.DiskMiB,
			Head: pool.SnapshotID(row.Head), Identity: spec.Identity, Metadata: spec.Metadata,
			Stay: spec.Stay, Returns: spec.Returns, Cold: spec.Cold, Lease: spec.Lease, Asked: spec.Asked, Request: spec.Request, Schedule: spec.Schedule, Ingress: spec.Ingress,
		})
	}
	return recs, nil
}

// Templates is the template builder's Store on the database.
type Templates struct{ Rows sqlite.Templates }

// SaveTemplate implements the heart's contract.
func (t Templates) SaveTemplate(ctx context.Context, tpl template.Template) error {
	spec, err := json.Marshal(tpl)
	if err != nil {
		return fmt.Errorf("encode template %s: %w", tpl.Name, err)
	}
	return t.Rows.Save(ctx, sqlite.TemplateRow{
		Name: tpl.Name, Snapshot: string(tpl.Snapshot), Created: tpl.Created, Spec: spec,
	})
}

// DeleteTemplate implements the heart's contract.
func (t Templates) DeleteTemplate(ctx context.Context, name string) error {
	return t.Rows.Delete(ctx, name)
}

// Templates implements the heart's contract.
func (t Templates) Templates(ctx context.Context) ([]template.Template, error) {
	rows, err := t.Rows.List(ctx)
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

// Machines is the runner's Journal: the processes of machines, found again by
// their run directory.
type Machines struct{ Journal *journal.Journal }

// Begin implements the heart's contract.
func (m Machines) Begin(ctx context.Context, owner, runDir string) error {
	_, err := m.Journal.Begin(ctx, journal.Entry{Kind: journal.Process, Owner: owner, Ident: runDir})
	return err
}

// End implements the heart's contract.
func (m Machines) End(ctx context.Context, owner string) error {
	return m.Journal.EndAll(ctx, journal.Process, owner)
}

// Owners implements the heart's contract.
func (m Machines) Owners(ctx context.Context) (owners []string, err error) {
	pending, err := m.Journal.Pending(ctx)
	for _, e := range pending {
		if e.Kind == journal.Process {
			owners = append(owners, e.Owner)
		}
	}
	return owners, err
}
