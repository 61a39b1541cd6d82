// Package sandbox is the heart: what a sandbox is, what can be done with it,
// and in which order, so that a machine is either right or not running.
//
// One goroutine owns a sandbox (box.go). Requests and the end of its VMM
// reach it through a queue, and it applies them one after another by the
// table in package lifecycle; callers wait. A second request therefore waits
// for the first, and what no longer fits by then is refused by name.
//
// What a running machine is and how it is started, captured and released is
// package live's; what sandboxes start from is package template's. The heart
// knows its other neighbours by the small interfaces below. It must not import
// a driver, the database or anything that speaks HTTP to users.
//
// Everything that exists on the host for a sandbox (files in the pool, a run
// directory, a VMM process) is named after its id, and the record that names
// it is stored before any of it is made. So whatever a crash leaves is found
// by Recover and either taken over or removed.
package sandbox

import (
	"context"
	"encoding/json"
	"maps"
	"time"

	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/lease"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/name"
	"bulkhead/internal/sandbox/schedule"
	"bulkhead/internal/sandbox/template"
	"bulkhead/proto/machine"
)

// ID names a sandbox: "i" and 20 of a to z and 0 to 9. It goes into host
// names and paths.
type ID string

// Record is what is remembered of a sandbox across daemons.
type Record struct {
	ID ID
	// Team is whose it is, and a name is unique within.
	Team string
	Name string
	// Template is the name of the template it came from.
	Template string
	State    lifecycle.State
	// Reason says in one line how it came into a state that nobody asked for.
	Reason  string
	Created time.Time
	// Started is when the machine last began to run.
	Started time.Time
	// Size and DiskMiB are the machine's.
	Size    live.Size
	DiskMiB int
	// Head is the snapshot that the machine was last equal to, "" before the
	// first.
	Head     pool.SnapshotID
	Identity Identity
	Metadata map[string]string
	// Stay means that a pause ends by Resume alone.
	Stay bool
	// Cold means that of a paused machine the disk alone counts.
	Cold bool
	// Ingress is how its own ports may be reached.
	Ingress Ingress
	// Returns means that it is paused because the host goes down, and is resumed
	// once that has started again.
	Returns bool
	// Schedule is what is done for it while nobody looks.
	Schedule schedule.Schedule
	// Lease is how its client has it; nil for as long as it likes.
	Lease *lease.Lease
	// Request names the request that made it, see CreateSpec.
	Request string
	// Asked is what the client's request said that means nothing here. It is
	// kept, and passed on to forks.
	Asked json.RawMessage
}

// identity is what the guest is told of itself. Programs that were written for
// E2B find the variables by which they know a sandbox; no client's own can take
// their place.
func (r Record) identity() *machine.Identity {
	env := maps.Clone(r.Identity.Env)
	if env == nil {
		env = map[string]string{}
	}
	env["E2B_SANDBOX"], env["E2B_SANDBOX_ID"], env["E2B_TEMPLATE_ID"] = "true", string(r.ID), r.Template
	return &machine.Identity{
		Hostname: r.Identity.Hostname, MachineId: r.Identity.MachineID, Env: env, User: r.Identity.User, Workdir: r.Identity.Workdir,
	}
}

// Ingress is how what serves in a sandbox may be reached from outside, by those
// who have no key.
type Ingress struct {
	// Private ports are not reached without a token.
	Private bool `json:"private,omitempty"`
	// MaskHost is the host that services believe to be called, ${PORT} in it being
	// theirs; "" for the one that they are called.
	MaskHost string `json:"mask_host,omitempty"`
}

// Identity is what tells one machine from another that was made from the
// same snapshot.
type Identity struct {
	Hostname  string            `json:"hostname"`
	MachineID string            `json:"machine_id"`
	Env       map[string]string `json:"env,omitempty"`
	// User and Workdir are those of clients that do not say; "" leaves it to the
	// agent.
	User    string `json:"user,omitempty"`
	Workdir string `json:"workdir,omitempty"`
}

// Store keeps records. Save replaces the record of the same id as one step;
// it returns a fault.Exists error for a name that another record of the team has.
type Store interface {
	Save(ctx context.Context, rec Record) error
	Delete(ctx context.Context, id ID) error
	List(ctx context.Context) ([]Record, error)
}

// Templates knows the prepared machines that sandboxes start from.
type Templates interface {
	// Get returns the template of a name, or a fault.NotFound error.
	Get(ctx context.Context, name string) (template.Template, error)
	// Room refuses a team one template more than it may have: fault.Limited. One of
	// that name is replaced.
	Room(ctx context.Context, team, name string) error
	// Publish makes t the template of its name, in place of an older one. On
	// error its snapshot is gone.
	Publish(ctx context.Context, t template.Template) error
	// Sweep removes what interrupted builds left, given all machines.
	Sweep(ctx context.Context, machines []pool.MachineID) error
}

// Events records what happened. It never fails towards the caller: what
// cannot be recorded is the log's business.
type Events interface {
	Append(ctx context.Context, typ, id string, fields map[string]string)
}

func newID() ID { return ID("i" + name.Random(20)) }
