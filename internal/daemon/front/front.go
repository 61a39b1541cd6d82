// Package front shows the heart in the words of the wire: what the server asks
// for, it gets from sandboxes, pool, jail and perimeter, as clients read it.
//
// It translates and decides nothing: what may be done, and in which order, is
// said below it. It must not know HTTP.
package front

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"bulkhead/client"
	"bulkhead/internal/caution"
	"bulkhead/internal/config"
	"bulkhead/internal/daemon/build"
	"bulkhead/internal/daemon/netrules"
	"bulkhead/internal/daemon/store"
	"bulkhead/internal/daemon/wire"
	"bulkhead/internal/egress"
	"bulkhead/internal/fault"
	"bulkhead/internal/jail"
	"bulkhead/internal/lately"
	"bulkhead/internal/meter"
	"bulkhead/internal/pool"
	"bulkhead/internal/reclaim"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/name"
	"bulkhead/internal/sandbox/recipe/works"
	"bulkhead/internal/sandbox/template"
	"bulkhead/internal/secret"
	"bulkhead/internal/server"
	"bulkhead/internal/server/auth"
	wirebuilds "bulkhead/internal/server/e2b/builds"
	"bulkhead/internal/server/token"
	"bulkhead/internal/vmm"
	"bulkhead/internal/vmm/qemu"
)

// Front shows the heart and its surroundings. All fields are needed but Domain.
type Front struct {
	*sandbox.Manager
	Templates *template.Builder
	Works     *works.Works
	Pool      *pool.Pool
	Cages     *jail.Jail
	Border    *egress.Perimeter
	Keys      *auth.Keys
	Tokens    token.Seed
	Metrics   server.Metrics
	Vault     *secret.Vault
	Guard     *caution.Guard
	Meter     *meter.Meter
	// Unhealthy says why a machine is not healthy; "" if nothing is known.
	Unhealthy func(id string) string
	Events    store.Events
	Config    config.Config
	// Version is the program's.
	Version string
	Clock   func() time.Time
	// Domain is what the host names of ports end in; nil if there are none.
	Domain *string

	owns lately.Cache[pool.SnapshotID, int64]
}

// Options returns what a server shows.
func (a *Front) Options(log *slog.Logger) server.Options {
	return server.Options{
		E2B: a.e2b(), Builds: &wirebuilds.API{Builder: build.Builder{Works: a.Works}, Templates: builds{a}}, Sandboxes: sandboxes{a}, Power: sandboxes{a}, Snapshots: snapshots{a}, Templates: builds{a},
		Egress: borders{a}, Questions: borders{a},
		Lessons: borders{a}, Ports: borders{a}, Ingress: borders{a}, Tokens: a.Tokens, Secrets: vaults{a}, Keys: ring{a}, Parcels: parcels{a},
		Events: store.Reader(a.Events.Audit), EventsVerified: store.Verifier(a.Events.Audit), Info: a.info,
		Ready: a.ready, Metrics: a.Metrics, Log: log,
	}
}

// ready returns an error if the pool does not answer or has no room for machines:
// nothing can be made then, nor snapshotted.
func (a *Front) ready(context.Context) error {
	u, err := a.Pool.Usage()
	if err == nil && u.Free < u.Reserved {
		err = fault.New(fault.Unavailable, "the pool is full")
	}
	return err
}

func (a *Front) info(ctx context.Context) (client.Info, error) {
	v, err := a.Machines.Driver.Version(ctx)
	if err != nil {
		return client.Info{}, err
	}
	u, err := a.Pool.Usage()
	if err != nil {
		return client.Info{}, err
	}
	if !auth.From(ctx).Administers() {
		return client.Info{Version: a.Version, Accel: string(v.Accel), Boundary: v.Accel == vmm.KVM}, nil
	}
	var lacks []string
	for _, m := range a.Cages.Degraded() {
		lacks = append(lacks, m.Feature)
	}
	return client.Info{
		JailLacks: lacks, Version: a.Version, Accel: string(v.Accel), Boundary: v.Accel == vmm.KVM,
		StateDir: a.Config.StateDir, PID: os.Getpid(), PoolTotal: u.Total, PoolFree: u.Free,
	}, nil
}

// sees reports whether a sandbox is there for who is asking.
func sees(ctx context.Context, rec sandbox.Record) bool {
	return auth.From(ctx).Sees(rec.Team, string(rec.ID))
}

// seen returns the sandboxes that there are for who is asking.
func (a *Front) seen(ctx context.Context) []sandbox.Sandbox {
	return slices.DeleteFunc(a.Manager.List(), func(b sandbox.Sandbox) bool { return !sees(ctx, b.Record) })
}

type sandboxes struct{ *Front }

// Resolve implements server.Sandboxes.
func (s sandboxes) Resolve(ctx context.Context, ref string) (string, error) {
	b, err := s.GetAmong(ref, func(rec sandbox.Record) bool { return sees(ctx, rec) })
	return string(b.ID), err
}

func (s sandboxes) List(ctx context.Context) ([]client.Sandbox, error) {
	all := []client.Sandbox{}
	for _, b := range s.seen(ctx) {
		c, err := s.sandbox(ctx, b)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

func (s sandboxes) Create(ctx context.Context, req client.CreateRequest) (client.Sandbox, error) {
	asked, err := json.Marshal(wire.AskedFor(req))
	if err != nil {
		return client.Sandbox{}, err
	}
	spec := sandbox.CreateSpec{
		Team: auth.From(ctx).Home(), Template: req.TemplateID, Name: req.Name, Env: req.EnvVars, Metadata: req.Metadata,
		Lease: wire.Lease(req), Asked: asked, Ingress: ingressOf(req.Network), Request: req.IdempotencyKey,
	}
	if netrules.Restricts(req.Network, req.AllowInternetAccess) {
		rules, err := netrules.Policy(req.Network, req.AllowInternetAccess)
		if err != nil {
			return client.Sandbox{}, err
		}
		spec.Ready = func(id sandbox.ID) error { return s.Border.SetPolicy(ctx, string(id), rules) }
	}
	rec, err := s.Manager.Create(ctx, spec)
	if err != nil {
		return client.Sandbox{}, err
	}
	return s.Get(ctx, string(rec.ID))
}

func (s sandboxes) Get(ctx context.Context, ref string) (client.Sandbox, error) {
	b, err := s.Manager.Get(ref)
	if err != nil {
		return client.Sandbox{}, err
	}
	c, err := s.sandbox(ctx, b)
	if b.WayBack != "" {
		if dir, err := s.Manager.Console(ref); err == nil {
			c.ConsoleTail = ConsoleTail(dir)
		}
	}
	if c.VMM != nil && err == nil {
		c.VMM.Cage, err = s.cage(ctx, ref)
	}
	return c, err
}

func (s sandboxes) Start(ctx context.Context, ref string) (client.Sandbox, error) {
	b, err := s.Manager.Start(ctx, ref)
	if err != nil {
		return client.Sandbox{}, err
	}
	return s.sandbox(ctx, b)
}

func (s sandboxes) Restart(ctx context.Context, ref string) (client.Sandbox, error) {
	b, err := s.Manager.Restart(ctx, ref)
	if err != nil {
		return client.Sandbox{}, err
	}
	return s.sandbox(ctx, b)
}

func (s sandboxes) Pause(ctx context.Context, ref string, req client.PauseRequest) (client.Sandbox, error) {
	spec := sandbox.PauseSpec{Stay: req.Stay, Cold: req.Memory != nil && !*req.Memory}
	if req.UntilBoot {
		spec = sandbox.PauseSpec{UntilBoot: true}
	}
	b, err := s.Manager.Pause(ctx, ref, spec)
	if err != nil {
		return client.Sandbox{}, err
	}
	return s.sandbox(ctx, b)
}

func (s sandboxes) Resume(ctx context.Context, ref string, req client.ResumeRequest) (client.Sandbox, error) {
	spec := sandbox.ResumeSpec{Cold: req.Memory != nil && !*req.Memory}
	if req.Timeout != nil {
		spec.Term = wire.Seconds(*req.Timeout)
	}
	b, err := s.Manager.Resume(ctx, ref, spec)
	if err != nil {
		return client.Sandbox{}, err
	}
	return s.sandbox(ctx, b)
}

func (s sandboxes) Fork(ctx context.Context, ref string, req client.ForkRequest) ([]client.Sandbox, []error, error) {
	source, err := s.Manager.Get(ref)
	if err != nil {
		return nil, nil, err
	}
	forks, errs, err := s.Manager.Fork(ctx, ref, sandbox.ForkSpec{
		Snapshot: req.Snapshot, Count: req.Count, Name: req.Name, Lease: wire.ForkLease(source.Lease, req.Timeout), Partial: !req.All,
	})
	if err != nil {
		return nil, nil, err
	}
	all := make([]client.Sandbox, len(forks))
	for i, f := range forks {
		if errs[i] == nil {
			all[i], errs[i] = s.Get(ctx, string(f.ID))
		}
	}
	return all, errs, nil
}

// Remove implements server.Sandboxes. Keys that are for the sandbox alone end with
// it.
func (s sandboxes) Remove(ctx context.Context, ref string) error {
	b, err := s.Manager.Get(ref)
	if err != nil {
		return err
	}
	if err := s.Manager.Remove(ctx, string(b.ID)); err != nil {
		return err
	}
	return s.Keys.Forget(context.WithoutCancel(ctx), string(b.ID))
}

func (s sandboxes) Console(_ context.Context, ref string) (string, error) {
	return s.Manager.Console(ref)
}

// consoleTailBytes is how much of the console explains an end: some 25 lines.
const consoleTailBytes = 2 << 10

// ConsoleTail is the end of the console in a run directory as plain text: a
// guest chose it.
func ConsoleTail(dir string) string {
	raw := qemu.Tail(filepath.Join(dir, qemu.ConsoleFile), consoleTailBytes)
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, raw)
}

func (a *Front) sandbox(ctx context.Context, b sandbox.Sandbox) (client.Sandbox, error) {
	v, err := a.Machines.Driver.Version(ctx)
	if err != nil {
		return client.Sandbox{}, err
	}
	c := client.Sandbox{
		ID: string(b.ID), Team: b.Team, Name: b.Name, TemplateID: b.Template, State: wireState(b.State),
		Reason: b.Reason, Hint: b.WayBack, CreatedAt: b.Created, StartedAt: b.Started,
		CPUs: b.Size.CPUs, MemoryMB: b.Size.MemoryMiB, DiskMB: b.DiskMiB,
		Unhealthy: a.Unhealthy(string(b.ID)), Metadata: b.Metadata, Head: string(b.Head), Accel: string(v.Accel),
		Schedule: wire.Schedule(b.Schedule),
	}
	a.lent(ctx, &c, b)
	if b.PID != 0 && auth.From(ctx).Administers() {
		c.VMM = &client.VMM{Driver: v.Driver, Version: v.VMM, PID: b.PID}
	}
	if b.PID != 0 {
		c.MemoryUsedMB = reclaim.Resident(b.PID)
	}
	return c, nil
}

// wireState hides what is over in a moment: a sandbox whose snapshot is being
// taken runs.
func wireState(s lifecycle.State) client.State {
	switch s {
	case lifecycle.Snapshotting, lifecycle.Suspending:
		return client.StateRunning
	case lifecycle.Pausing, lifecycle.Resuming:
		return client.StatePaused
	}
	return client.State(s)
}

type snapshots struct{ *Front }

func (s snapshots) Take(ctx context.Context, ref string, req client.SnapshotRequest) (client.Snapshot, error) {
	snap, err := s.Snapshot(ctx, ref, req.Name)
	if err != nil {
		return client.Snapshot{}, err
	}
	return s.snapshot(ctx, snap)
}

func (s snapshots) Remove(ctx context.Context, ref, snap string) error {
	return s.RemoveSnapshot(ctx, ref, snap)
}

func (s snapshots) Timeline(ctx context.Context, ref string) (client.Timeline, error) {
	b, snaps, err := s.Manager.Timeline(ref)
	if err != nil {
		return client.Timeline{}, err
	}
	t := client.Timeline{SandboxID: string(b.ID), Head: string(b.Head), Snapshots: []client.Snapshot{}}
	for _, snap := range snaps {
		c, err := s.snapshot(ctx, snap)
		if err != nil {
			return t, err
		}
		t.Snapshots = append(t.Snapshots, c)
	}
	return t, nil
}

func (s snapshots) Rollback(ctx context.Context, ref string, req client.RollbackRequest) (client.RollbackResult, error) {
	r, err := s.Manager.Rollback(ctx, ref, req.Snapshot, req.Discard)
	if err != nil {
		return client.RollbackResult{}, err
	}
	box, err := s.sandbox(ctx, r.Sandbox)
	if err != nil {
		return client.RollbackResult{}, err
	}
	snap, err := s.snapshot(ctx, r.Snapshot)
	return client.RollbackResult{
		Sandbox: box, Snapshot: snap, DurationMS: float64(r.Took.Microseconds()) / 1000,
		Kept: string(r.Kept), Lost: r.Lost,
	}, err
}

func (a *Front) snapshot(ctx context.Context, s pool.Snapshot) (client.Snapshot, error) {
	own, err := a.own(ctx, s.ID)
	if err != nil {
		return client.Snapshot{}, err
	}
	return client.Snapshot{
		ID: string(s.ID), Name: s.Name, Names: []string{}, SandboxID: s.Sandbox, Parent: string(s.Parent),
		CreatedAt: s.Created, Cause: s.Cause, What: s.Labels[pool.LabelWhat], OwnBytes: own,
		StoppedMS: float64(s.Stopped.Microseconds()) / 1000,
	}, nil
}

type builds struct{ *Front }

func (b builds) List(ctx context.Context) ([]client.Template, error) {
	stored, err := b.Templates.List(ctx)
	if err != nil {
		return nil, err
	}
	users := b.users(ctx)
	all := []client.Template{}
	for _, t := range stored {
		if !shows(ctx, t) {
			continue
		}
		c, err := b.template(ctx, t)
		if err != nil {
			return nil, err
		}
		c.Sandboxes = users[t.Name]
		all = append(all, c)
	}
	return all, nil
}

func (b builds) SetSchedule(ctx context.Context, name string, req client.Schedule) (client.Template, error) {
	t, err := b.Templates.SetSchedule(ctx, name, wire.Wanted(req))
	if err != nil {
		return client.Template{}, err
	}
	return b.template(ctx, t)
}

// users counts the sandboxes that came from each template.
func (b builds) users(ctx context.Context) map[string]int {
	users := map[string]int{}
	for _, s := range b.seen(ctx) {
		users[s.Template]++
	}
	return users
}

func (b builds) Remove(ctx context.Context, name string) error { return b.Templates.Remove(ctx, name) }

func (b builds) Build(ctx context.Context, req client.BuildRequest, progress func(client.BuildEvent)) (client.Template, error) {
	if err := name.Check("template", req.Name); err != nil {
		return client.Template{}, err
	}
	from, err := wire.Remote(req.FromImage, req.Registry)
	if err != nil {
		return client.Template{}, err
	}
	def := b.Config.Template
	t, err := b.Templates.Build(ctx, template.Spec{
		Name: req.Name, Size: live.Size{CPUs: or(req.CPUs, def.CPUs), MemoryMiB: or(req.MemoryMB, def.MemoryMiB)},
		DiskMiB: or(req.DiskMB, def.DiskMiB), Packages: req.Packages, BuildTools: req.BuildTools, From: from,
	}, func(s template.Step) {
		progress(client.BuildEvent{
			Step: s.Name, Number: s.Number, Of: s.Of, Done: s.Done, Log: s.Log,
			ElapsedMS: float64(s.Elapsed.Microseconds()) / 1000,
		})
	})
	if err != nil {
		return client.Template{}, err
	}
	return b.template(ctx, t)
}

func or(v *int, otherwise int) int {
	if v != nil {
		return *v
	}
	return otherwise
}

func (a *Front) template(ctx context.Context, t template.Template) (client.Template, error) {
	c := wireTemplate(t)
	var err error
	c.OwnBytes, err = a.own(ctx, t.Snapshot)
	return c, err
}

// own is what only a snapshot holds, or held a moment ago: a machine's memory
// lies on the disk in thousands of pieces, which takes a tenth of a second to
// add up.
func (a *Front) own(ctx context.Context, id pool.SnapshotID) (int64, error) {
	return a.owns.Of(ctx, id, func(ctx context.Context) (int64, error) { return a.Pool.Own(ctx, id) })
}

// wireTemplate is a template as clients read it, but for its size.
func wireTemplate(t template.Template) client.Template {
	return client.Template{
		ID: t.Name, Name: t.Name, CreatedAt: t.Created, CPUs: t.Size.CPUs, MemoryMB: t.Size.MemoryMiB,
		DiskMB: t.DiskMiB, Kernel: t.Kernel, Accel: t.Accel,
		Origin: t.Origin, Schedule: wire.Schedule(t.Schedule), BuildID: cmp.Or(t.Build, buildID(t.Snapshot)), EnvdVersion: envdVersion,
		Names: []string{}, Aliases: []string{}, BuildStatus: "ready", BuildCount: 1, Public: t.Team == "", UpdatedAt: t.Created,
	}
}
