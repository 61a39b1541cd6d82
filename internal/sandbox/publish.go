package sandbox

import (
	"context"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/template"
)

// Publish makes a template of a running sandbox as it is now, which goes on. The
// template is nobody's: it stays when the sandbox goes. name is that of the
// template; one of that name is replaced.
func (m *Manager) Publish(ctx context.Context, ref, name string) (t template.Template, err error) {
	b, err := m.find(ref)
	if err != nil {
		return t, err
	}
	rec := b.record()
	from, err := m.Templates.Get(ctx, rec.Template)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return t, err
	}
	if err := m.Templates.Room(ctx, rec.Team, name); err != nil {
		return t, err
	}
	v, err := m.Machines.Driver.Version(ctx)
	if err != nil {
		return t, err
	}
	var snap pool.Snapshot
	err = b.do(ctx, lifecycle.Snapshot, func(ctx context.Context) (err error) {
		meta := b.meta(name, template.Cause)
		meta.Sandbox, meta.Parent = "", ""
		snap, err = b.snapshot(ctx, meta)
		return err
	})
	if err != nil {
		return t, err
	}
	t = template.Template{
		Name: name, Snapshot: snap.ID, Created: snap.Created, Size: rec.Size, DiskMiB: rec.DiskMiB,
		Kernel: from.Kernel, Accel: string(v.Accel), Origin: string(rec.ID), Team: rec.Team, Defaults: from.Defaults,
	}
	return t, m.Templates.Publish(ctx, t)
}
