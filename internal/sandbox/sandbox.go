// Package sandbox is the heart: what a sandbox is, what can be done with it,
// and in which order, so that a machine is either right or not running.
//
// One goroutine owns a sandbox (box.go). Requests and the end of its VMM
// reach it through a queue, and it applies them one after another by the
// table in package lifecycle; callers wait. A second request therefore waits
// for the first, and what no longer fits by then is refused by name.
//
// The heart knows its neighbours as contracts: vmm.Driver for machines, Guest
// for what is inside, pool for files, and the small stores below. It must not
// import a driver, the database or anything that speaks HTTP to users.
//
// Everything that exists on the host for a sandbox (files in the pool, a run
// directory, a VMM process) is named after its id, and the record that names
// it is stored before any of it is made. So whatever a crash leaves is found
// by Recover and either taken over or removed.
package sandbox

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/proto/machine"
)

// ID names a sandbox: "i" and 20 of a to z and 0 to 9. It goes into host
// names and paths.
type ID string

// Record is what is remembered of a sandbox across daemons.
type Record struct {
	ID   ID
	Name string
	// Template is the name of the template it came from.
	Template string
	State    lifecycle.State
	// Reason says in one line how it came into a state that nobody asked for.
	Reason  string
	Created time.Time
	// Started is when the machine last began to run.
	Started time.Time
	// CPUs, MemoryMiB and DiskMiB are the machine's sizes.
	CPUs, MemoryMiB, DiskMiB int
	// Head is the snapshot that the machine was last equal to, "" before the
	// first.
	Head     pool.SnapshotID
	Identity Identity
	Metadata map[string]string
}

// Identity is what tells one machine from another that was made from the
// same snapshot.
type Identity struct {
	Hostname  string            `json:"hostname"`
	MachineID string            `json:"machine_id"`
	Env       map[string]string `json:"env,omitempty"`
}

func (i Identity) proto() *machine.Identity {
	return &machine.Identity{Hostname: i.Hostname, MachineId: i.MachineID, Env: i.Env}
}

// Template is a prepared machine that sandboxes start from.
type Template struct {
	Name     string
	Snapshot pool.SnapshotID
	Created  time.Time
	// CPUs, MemoryMiB and DiskMiB are the sizes of machines made from it.
	CPUs, MemoryMiB, DiskMiB int
	// Kernel is the release of the guest's kernel: "6.1.0-56-cloud-amd64".
	Kernel string
	Accel  string
}

// Store keeps records. Save replaces the record of the same id as one step;
// it returns a fault.Exists error for a name that another record has.
type Store interface {
	Save(ctx context.Context, rec Record) error
	Delete(ctx context.Context, id ID) error
	List(ctx context.Context) ([]Record, error)
}

// TemplateStore keeps templates by name.
type TemplateStore interface {
	SaveTemplate(ctx context.Context, t Template) error
	DeleteTemplate(ctx context.Context, name string) error
	Templates(ctx context.Context) ([]Template, error)
}

// Journal remembers that the VMM of a machine may exist. Begin comes before
// it is started, End after it is gone; both may be repeated.
type Journal interface {
	Begin(ctx context.Context, owner, runDir string) error
	End(ctx context.Context, owner string) error
}

// Events records what happened. It never fails towards the caller: what
// cannot be recorded is the log's business.
type Events interface {
	Append(ctx context.Context, typ string, id ID, fields map[string]string)
}

// Guest is the inside of one running machine.
type Guest interface {
	// Status says whether the machine has booted and is frozen.
	Status(ctx context.Context) (*machine.StatusResponse, error)
	// Sync writes dirty file data to the disk.
	Sync(ctx context.Context) error
	// Freeze stops every process but the agent.
	Freeze(ctx context.Context) error
	// Resume corrects clock and randomness, takes on identity unless it is
	// nil, then thaws. Nil means that the guest confirmed all of it.
	Resume(ctx context.Context, identity *machine.Identity) error
	// Transport carries HTTP to the guest's services.
	Transport() http.RoundTripper
	// Done is closed when the connection is lost.
	Done() <-chan struct{}
	// Close ends the connection; repeating it is no error.
	Close() error
}

const idAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789"

// randomString returns n characters of [a-z0-9]. The bias of the modulo is
// harmless: these are names, not secrets.
func randomString(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	for i := range b {
		b[i] = idAlphabet[int(b[i])%len(idAlphabet)]
	}
	return string(b)
}

func newID() ID { return ID("i" + randomString(20)) }
