package sandbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/capacity"
	"bulkhead/internal/sandbox/lease"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/look"
	"bulkhead/internal/sandbox/name"
)

// Parts are what a Manager is made of. Every field is needed.
type Parts struct {
	Machines  *live.Runner
	Templates Templates
	Store     Store
	Events    Events
	Limits    capacity.Limits
	// Clock is the host's time.
	Clock func() time.Time
	Log   *slog.Logger
}

// Manager holds every sandbox of the host. It is safe for concurrent use.
type Manager struct {
	Parts

	// closing is closed when no further request is taken.
	closing chan struct{}
	stop    context.CancelFunc
	// life is the context that the owners run under.
	life    context.Context
	owners  sync.WaitGroup
	closeup sync.Once

	mu    sync.Mutex
	boxes map[ID]*box   // guarded by mu
	looks look.Visitors // guarded by mu
}

// New returns a Manager without sandboxes; Recover fills it with those that
// are recorded.
func New(p Parts) *Manager {
	life, stop := context.WithCancel(context.Background())
	return &Manager{Parts: p, closing: make(chan struct{}), life: life, stop: stop, boxes: map[ID]*box{}, looks: look.Visitors{}}
}

// Close takes no further requests, waits for those under way until ctx ends,
// then cancels them. Machines keep running.
func (m *Manager) Close(ctx context.Context) error {
	m.closeup.Do(func() { close(m.closing) })
	idle := make(chan struct{})
	go func() {
		m.quiesce()
		m.stop()
		m.owners.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		m.stop()
		<-idle
		return fmt.Errorf("requests under way were cancelled: %w", ctx.Err())
	}
}

// quiesce waits until no owner has a request under way.
func (m *Manager) quiesce() {
	for _, b := range m.list() {
		// An owner that takes this has nothing else to do.
		j := job{done: make(chan error, 1)}
		select {
		case b.queue <- j:
			<-j.done
		case <-b.gone:
		case <-m.life.Done():
		}
	}
}

// CreateSpec says what sandbox to make.
type CreateSpec struct {
	// Team is whose it will be.
	Team string
	// Template is a template's name.
	Template string
	// Name is a DNS label that no other sandbox of the team has; "" makes one up.
	Name     string
	Env      map[string]string
	Metadata map[string]string
	// Lease, Asked and Ingress are as in a Record.
	Lease   *lease.Lease
	Asked   json.RawMessage
	Ingress Ingress
	// Request names the request, if it may come again: of two that are called the
	// same within an hour, the second makes nothing. "" for one that may not.
	Request string
	// Ready is called before the machine runs, unless it is nil.
	Ready func(ID) error
}

// Create makes a sandbox from a template and returns when its guest runs and
// is right. On error nothing of it is left.
func (m *Manager) Create(ctx context.Context, spec CreateSpec) (Record, error) {
	if rec, ok := m.madeBy(spec.Request); ok {
		return rec, nil
	}
	if err := name.CheckVariables(spec.Env, spec.Metadata); err != nil {
		return Record{}, err
	}
	if spec.Name != "" {
		if err := name.Check("sandbox", spec.Name); err != nil {
			return Record{}, err
		}
	}
	t, err := m.Templates.Get(ctx, spec.Template)
	if err != nil {
		return Record{}, err
	}
	b, err := m.reserve(Record{
		Team: spec.Team,
		Name: cmp.Or(spec.Name, name.Derived(t.Label())), Template: t.Name, Size: t.Size, DiskMiB: t.DiskMiB,
		Identity: Identity{Env: t.Defaults.Under(spec.Env), User: t.Defaults.User, Workdir: t.Defaults.Workdir},
		Metadata: spec.Metadata, Schedule: t.Schedule,
		Lease: spec.Lease, Asked: spec.Asked, Ingress: spec.Ingress, Request: spec.Request,
	})
	if err != nil {
		return Record{}, err
	}
	ctx, cancel := m.underLife(ctx)
	defer cancel()
	if err := b.create(ctx, birth{from: t.Snapshot, ready: spec.Ready}); err != nil {
		m.giveUp(b)
		return Record{}, fmt.Errorf("create sandbox %s: %w", b.record().Name, err)
	}
	m.own(b)
	return b.record(), nil
}

// madeBy returns the sandbox that a request has made whose answer was lost. Those
// that are under way are the caller's to hold back.
func (m *Manager) madeBy(request string) (Record, bool) {
	for _, b := range m.list() {
		rec := b.record()
		if request != "" && rec.Request == request && m.Clock().Sub(rec.Created) < time.Hour {
			return rec, true
		}
	}
	return Record{}, false
}

// underLife returns a context that ends with ctx or with the manager.
func (m *Manager) underLife(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(m.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// giveUp forgets a sandbox that did not come to be.
func (m *Manager) giveUp(b *box) {
	m.forget(b)
	close(b.gone)
}

// reserve enters a new sandbox, so that its id and name are taken. It makes up
// what no other has.
func (m *Manager) reserve(rec Record) (*box, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.closing:
		return nil, fault.New(fault.Unavailable, "daemon is shutting down")
	default:
	}
	ours := 0
	for _, b := range m.boxes {
		is := b.record()
		if is.Team == rec.Team {
			ours++
		}
		if is.Name == rec.Name && is.Team == rec.Team {
			return nil, fault.New(fault.Exists, "sandbox %s exists already", rec.Name).Hint("choose another --name, or: bulkhead rm %s", rec.Name)
		}
	}
	taken := m.taken()
	if err := m.Limits.AnotherOf(ours); err != nil {
		return nil, err
	}
	if err := errors.Join(m.Limits.Another(taken), m.Limits.Start(taken, rec.Size)); err != nil {
		return nil, err
	}
	rec.ID, rec.State, rec.Created = newID(), lifecycle.Creating, m.Clock()
	rec.Identity.Hostname, rec.Identity.MachineID = rec.Name, name.MachineID()
	b := newBox(m, rec, nil)
	m.boxes[rec.ID] = b
	return b, nil
}

// taken is what all sandboxes take of the host, and those who look into their
// past. mu is held.
func (m *Manager) taken() (t capacity.Taken) {
	for _, b := range m.boxes {
		rec := b.record()
		t.Add(rec.State == lifecycle.Creating || rec.State.Live(), rec.Size)
	}
	for _, of := range m.looks {
		t.Start(of...)
	}
	return t
}

// RoomFor refuses to start a machine that the host has no room for.
func (m *Manager) RoomFor(size live.Size) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Limits.Start(m.taken(), size)
}

// resize makes a sandbox that was reserved without a size one of that size, if the
// host has room for it.
func (m *Manager) resize(b *box, size live.Size) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.Limits.Start(m.taken(), size); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rec.Size = size
	return nil
}

// own starts the goroutine that owns b.
func (m *Manager) own(b *box) {
	m.owners.Go(func() {
		b.serve(m.life)
		b.keeping.Wait() // the pool is closed after the owners have ended
		select {
		case <-b.gone:
			m.forget(b)
		default:
		}
	})
}

func (m *Manager) forget(b *box) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.boxes, b.record().ID)
}

func (m *Manager) list() []*box {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.boxes))
}

// Sandbox is a record with what its VMM is now.
type Sandbox struct {
	Record
	// PID is the VMM's process number, 0 while there is none.
	PID int
	// WayBack is the command that brings a stopped, crashed or held sandbox
	// back.
	WayBack string
}

func (b *box) view() Sandbox {
	s := Sandbox{Record: b.record()}
	if l := b.machine(); l != nil {
		s.PID = l.VM.PID()
	}
	if s.State.Down() {
		s.WayBack = wayBack(s.Record)
	}
	return s
}

// List returns every sandbox, oldest first.
func (m *Manager) List() []Sandbox {
	var all []Sandbox
	for _, b := range m.list() {
		all = append(all, b.view())
	}
	slices.SortFunc(all, func(a, b Sandbox) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Get returns the sandbox that ref names: an id, a name, or a prefix of an id
// that fits no other.
func (m *Manager) Get(ref string) (Sandbox, error) {
	return m.GetAmong(ref, func(Record) bool { return true })
}

// GetAmong is Get for somebody to whom only those exist that it sees.
func (m *Manager) GetAmong(ref string, sees func(Record) bool) (Sandbox, error) {
	b, err := pick(ref, slices.DeleteFunc(m.list(), func(b *box) bool { return !sees(b.record()) }))
	if err != nil {
		return Sandbox{}, err
	}
	return b.view(), nil
}

// Team returns whose sandbox an id is of; ok is false if there is none.
func (m *Manager) Team(id string) (team string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.boxes[ID(id)]
	if !ok {
		return "", false
	}
	return b.record().Team, true
}

func (m *Manager) find(ref string) (*box, error) { return pick(ref, m.list()) }

func pick(ref string, among []*box) (*box, error) {
	fits := name.Pick(ref, among, func(b *box) (string, string) {
		rec := b.record()
		return string(rec.ID), rec.Name
	})
	switch len(fits) {
	case 1:
		return fits[0], nil
	case 0:
		return nil, fault.New(fault.NotFound, "sandbox %q not found", name.Clip(ref)).Hint("bulkhead ls")
	}
	return nil, fault.New(fault.Invalid, "%q fits %d sandboxes", ref, len(fits)).Hint("give more of the id: bulkhead ls")
}

// Snapshot takes a snapshot of a running sandbox, named unless as is "".
func (m *Manager) Snapshot(ctx context.Context, ref, as string) (snap pool.Snapshot, err error) {
	b, err := m.find(ref)
	if err != nil {
		return snap, err
	}
	if err := b.history().CheckName(as); err != nil {
		return snap, err
	}
	err = b.do(ctx, lifecycle.Snapshot, func(ctx context.Context) (err error) {
		snap, err = b.snapshot(ctx, b.meta(as, causeManual))
		return err
	})
	return snap, err
}

// RolledBack says what a rollback did.
type RolledBack struct {
	Sandbox  Sandbox
	Snapshot pool.Snapshot
	// Took is from the end of the old VMM to the restored guest's word that
	// it is right and runs.
	Took time.Duration
	// Kept is the snapshot of what it was, or is about to be; "" if there is
	// none, and Lost says why.
	Kept pool.SnapshotID
	Lost string
}

// Rollback puts a sandbox back to one of its snapshots, in place. The snapshot
// is checked before anything is touched. What the machine was is kept as a
// snapshot if it runs and answers, unless discard is set.
func (m *Manager) Rollback(ctx context.Context, ref, snapRef string, discard bool) (r RolledBack, err error) {
	b, err := m.find(ref)
	if err != nil {
		return r, err
	}
	if r.Snapshot, err = b.named(ctx, snapRef); err != nil {
		return r, err
	}
	if err := m.loadable(ctx, r.Snapshot); err != nil {
		return r, err
	}
	var was Record
	err = b.hand(ctx, job{
		event: lifecycle.Rollback,
		fits: func(rec Record) error { // no machine is ended for a snapshot that has been removed by its turn
			was = rec
			_, err := b.history().Find(string(r.Snapshot.ID))
			return err
		},
		run: func(ctx context.Context) error { return b.rollBack(ctx, was, &r, discard) },
	})
	r.Sandbox = b.view()
	return r, err
}

// loadable checks that a snapshot is whole and fits this host's VMM.
func (m *Manager) loadable(ctx context.Context, s pool.Snapshot) error {
	if err := m.Machines.Pool.Verify(ctx, s.ID); err != nil {
		return err
	}
	if err := m.Machines.Fits(ctx, s.Version); err != nil {
		return fmt.Errorf("snapshot %s: %w", s.ID, err)
	}
	return nil
}

// ask has the owner of a sandbox do something, and returns what it is then.
func (m *Manager) ask(ctx context.Context, ref string, event lifecycle.Event, do func(*box, context.Context) error) (Sandbox, error) {
	b, err := m.find(ref)
	if err != nil {
		return Sandbox{}, err
	}
	err = b.do(ctx, event, func(ctx context.Context) error { return do(b, ctx) })
	return b.view(), err
}

// Start boots a stopped or crashed sandbox from its disk.
func (m *Manager) Start(ctx context.Context, ref string) (Sandbox, error) {
	return m.ask(ctx, ref, lifecycle.Start, (*box).start)
}

// Restart ends a machine, if it runs, and boots it from its disk.
func (m *Manager) Restart(ctx context.Context, ref string) (Sandbox, error) {
	return m.ask(ctx, ref, lifecycle.Restart, (*box).start)
}

// Remove ends a sandbox and removes all that it has, snapshots included. It
// interrupts what is under way.
func (m *Manager) Remove(ctx context.Context, ref string) error {
	b, err := m.find(ref)
	if err != nil {
		return err
	}
	return m.removeIf(ctx, b, nil)
}

// removeIf removes a sandbox if that still fits at its turn; nil fits always.
func (m *Manager) removeIf(ctx context.Context, b *box, fits func(Record) error) error {
	defer b.interrupt()()
	if err := b.hand(ctx, job{event: lifecycle.Remove, fits: fits, run: b.remove}); err != nil {
		return err
	}
	m.forget(b) // its owner does too, but maybe later
	return nil
}

// Transport carries HTTP to the services inside a sandbox, which it wakes if it
// is suspended or paused. A request's context
// must end with its answer. One that an agent does not begin to answer, and
// that answers nothing else either, fails with a fault.Unavailable; an answer
// that has begun takes its time.
func (m *Manager) Transport(ctx context.Context, ref string) (http.RoundTripper, error) {
	b, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	if err := b.wake(ctx); err != nil {
		return nil, err
	}
	g, err := b.attended(ctx)
	if err != nil {
		return nil, err
	}
	return transport{b, g}, nil
}

// Probe carries HTTP to the services inside a sandbox that runs, for who only
// looks at it: it wakes none, and counts as no use.
func (m *Manager) Probe(ctx context.Context, ref string) (http.RoundTripper, error) {
	b, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	return b.attended(ctx)
}

// Console returns the folder in which the sandbox's console is kept.
func (m *Manager) Console(ref string) (string, error) {
	b, err := m.find(ref)
	if err != nil {
		return "", err
	}
	return m.Machines.Dir(b.poolID()), nil
}
