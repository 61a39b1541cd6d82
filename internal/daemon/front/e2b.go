package front

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"

	"bulkhead/client"
	"bulkhead/internal/daemon/store"
	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/template"
	"bulkhead/internal/server"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/e2b"
)

// e2b is what clients of E2B know of the host.
func (a *Front) e2b() *e2b.API {
	return &e2b.API{
		Sandboxes: sandboxes{a}, Power: sandboxes{a}, Snapshots: snapshots{a}, Templates: builds{a},
		Networks: networks{a}, Past: past{a}, Clock: a.Clock,
	}
}

// Publish implements e2b.Snapshots.
func (s snapshots) Publish(ctx context.Context, ref, name string) (client.Template, error) {
	t, err := s.Manager.Publish(ctx, ref, name)
	if err != nil {
		return client.Template{}, err
	}
	return s.template(ctx, t)
}

// Find implements e2b.Templates.
func (b builds) Find(ctx context.Context, names ...string) (client.Template, error) {
	for _, name := range names {
		t, err := b.Templates.Get(ctx, name)
		switch {
		case err == nil && shows(ctx, t):
			c := wireTemplate(t)
			c.Sandboxes = b.users(ctx)[t.Name]
			return c, nil
		case err != nil && !fault.Is(err, fault.NotFound):
			return client.Template{}, err
		}
	}
	return client.Template{}, fault.New(fault.NotFound, "template not found")
}

// shows reports whether a template is there for who is asking.
func shows(ctx context.Context, t template.Template) bool {
	return t.Team == "" || auth.From(ctx).Sees(t.Team, t.Origin)
}

// Tag implements e2b.Templates.
func (b builds) Tag(ctx context.Context, name, as string) error {
	t, err := b.Templates.Get(ctx, name)
	if err != nil {
		return err
	}
	t.Name, t.Created = as, b.Clock()
	return b.Templates.Publish(ctx, t)
}

// buildID is a UUID (RFC 9562, version 8: of our own making) for a snapshot.
func buildID(id pool.SnapshotID) string {
	b := sha256.Sum256([]byte(id))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// past is what is known of what sandboxes have done.
type past struct{ *Front }

// Samples implements e2b.Past.
func (p past) Samples(ctx context.Context, id string) ([]client.Metric, error) {
	var all []client.Metric
	for _, s := range p.Meter.Samples(ctx, id) {
		all = append(all, client.Metric{
			Timestamp: s.At.UTC(), TimestampUnix: s.At.Unix(), CPUCount: s.CPUs, CPUUsedPct: s.CPUUsed,
			MemUsed: s.MemUsed, MemTotal: s.MemTotal, MemCache: s.MemCache, DiskUsed: s.DiskUsed, DiskTotal: s.DiskTotal,
		})
	}
	return all, nil
}

// Console implements e2b.Past.
func (p past) Console(_ context.Context, ref string) (string, error) { return p.Manager.Console(ref) }

// Events implements e2b.Past.
func (p past) Events(ctx context.Context, id string) iter.Seq2[client.Event, error] {
	return store.Reader(p.Front.Events.Audit)(ctx, server.EventQuery{SandboxID: id})
}
