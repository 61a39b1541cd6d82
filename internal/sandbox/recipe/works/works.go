// Package works builds templates by recipes: a machine is made of what the
// recipe starts from, the steps are carried out in it by its agent, and the
// moment in which all is up becomes the template.
//
//	base or newest kept layer ──restore──► machine ──steps, a layer kept behind
//	each that changes it──► start, ready ──snapshot──► template
//
// Nothing that a client or a guest chose is carried out on the host, or becomes
// part of a path here. A build machine has the same cage, and the same policy of
// what it may talk to, as any new sandbox. It exists as long as its build is
// under way: it has the id of one of package template, whose Sweep removes what
// a crash leaves, and package record says of the build that it failed.
//
// A Works is safe for concurrent use.
package works

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/recipe"
	"bulkhead/internal/sandbox/recipe/layer"
	"bulkhead/internal/sandbox/recipe/record"
	"bulkhead/internal/sandbox/recipe/upload"
	"bulkhead/internal/sandbox/template"
)

const (
	// atOnce is how many builds have a machine at a time, atOnceOfTeam how many of
	// one team; others wait for them.
	atOnce, atOnceOfTeam = 4, 2
	// maxWaiting is how many builds a team may have asked for and not started.
	maxWaiting = 100
	// limit bounds a build, its wait for others aside.
	limit = 2 * time.Hour
	// sweepEvery is how often what is too old is looked for.
	sweepEvery = time.Hour
)

// Bases finds what builds start from.
type Bases interface {
	// Check refuses an image that cannot be had, before a build begins.
	Check(img recipe.Image) error
	// FromImage returns the machine that is the same as an image, of a size unless
	// that is zero. say is told of what goes on, a line at a time. It is to be
	// released.
	FromImage(ctx context.Context, img recipe.Image, size live.Size, say func(line string)) (template.Base, error)
}

// Templates are prepared machines, by name.
type Templates interface {
	Get(ctx context.Context, name string) (template.Template, error)
	Publish(ctx context.Context, t template.Template) error
	// Release removes one that has no name.
	Release(ctx context.Context, base template.Base) error
}

// Parts are what a Works is made of. Every field is needed.
type Parts struct {
	Machines  *live.Runner
	Templates Templates
	Bases     Bases
	Book      *record.Book
	Files     *upload.Store
	Shelf     *layer.Shelf
	// Room refuses a machine that the host has no room for.
	Room func(live.Size) error
	// Team is how many builds one team may have under way.
	Team  int
	Clock func() time.Time
	Log   *slog.Logger
}

// Works builds templates.
type Works struct {
	Parts
	turns *turns
	life  context.Context
	stop  context.CancelFunc
	all   sync.WaitGroup

	mu sync.Mutex
	// under has the builds under way by id, with their teams; guarded by mu.
	under map[string]string
	// taken is what build machines take; guarded by mu.
	taken live.Size
}

// New returns a Works that sweeps now and then until Close.
func New(p Parts) *Works {
	w := &Works{Parts: p, turns: newTurns(atOnce, atOnceOfTeam), under: map[string]string{}}
	w.life, w.stop = context.WithCancel(context.Background())
	w.all.Go(w.keepSwept)
	return w
}

// Close ends the builds under way, which fail, and waits for them.
func (w *Works) Close() {
	w.stop()
	w.all.Wait()
}

func (w *Works) keepSwept() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		w.sweep(w.life)
		select {
		case <-tick.C:
		case <-w.life.Done():
			return
		}
	}
}

func (w *Works) sweep(ctx context.Context) {
	if err := errors.Join(w.Book.Sweep(ctx), w.Files.Sweep(), w.Shelf.Sweep(ctx)); err != nil && ctx.Err() == nil {
		w.Log.WarnContext(ctx, "what builds have left is not swept", "err", err)
	}
}

// Request is a build that is asked for.
type Request struct {
	Team string
	// Template is a name without team and tag. Without Tags, it is the default
	// one.
	Template string
	Tags     []string
	// CPUs and MemoryMiB are 0 for those of what it starts from.
	CPUs, MemoryMiB int
}

// Request enters a build, which waits to be started.
func (w *Works) Request(ctx context.Context, r Request) (record.Build, error) {
	switch {
	case r.CPUs < 0 || r.CPUs > 64:
		return record.Build{}, fault.New(fault.Invalid, "cpuCount %d is not within 1 to 64", r.CPUs)
	case r.MemoryMiB < 0 || r.MemoryMiB != 0 && r.MemoryMiB < 128 || r.MemoryMiB%2 != 0:
		return record.Build{}, fault.New(fault.Invalid, "memoryMB %d is not an even number from 128 up", r.MemoryMiB)
	}
	if err := w.Room(live.Size{CPUs: r.CPUs, MemoryMiB: r.MemoryMiB}); err != nil {
		return record.Build{}, err
	}
	if n := w.Book.Count(r.Team)[record.Waiting]; n >= maxWaiting {
		return record.Build{}, fault.New(fault.Limited, "the team has %d builds that it has not started", n)
	}
	return w.Book.Add(ctx, record.Build{Team: r.Team, Template: r.Template, Tags: r.Tags, CPUs: r.CPUs, MemoryMiB: r.MemoryMiB})
}

// Which names a build.
type Which struct{ Team, Template, Build string }

// Grant says whether a team has sent the files of a hash, and with which token
// they can be sent for a template that it builds.
func (w *Works) Grant(team, tpl, hash string) (present bool, token string, err error) {
	if err := recipe.CheckHash(hash); err != nil {
		return false, "", err
	}
	if !w.Book.Known(team, tpl) {
		return false, "", fault.New(fault.NotFound, "template not found").Hint("ask for a build with POST /v3/templates")
	}
	token, err = w.Files.Grant(upload.Grant{Team: team, Template: tpl, Hash: hash})
	return w.Files.Has(team, hash), token, err
}

// Receive takes files that were granted, see upload.Store.
func (w *Works) Receive(ctx context.Context, token string, as upload.Grant, length int64, body io.Reader) error {
	return w.Files.Receive(ctx, token, as, length, body)
}

// Start begins a build, which goes on after it returns. fault.Limited if the
// team has enough under way, fault.WrongState for a build that was started.
func (w *Works) Start(ctx context.Context, which Which, r recipe.Recipe) error {
	if err := r.Check(); err != nil {
		return err
	}
	if _, err := w.Book.Get(which.Team, which.Template, which.Build); err != nil {
		return err
	}
	if r.Template == "" {
		if err := w.Bases.Check(r.Image); err != nil {
			return err
		}
	}
	if err := w.enter(which); err != nil {
		return err
	}
	build, err := w.Book.Move(ctx, which.Build, record.Start, nil)
	if err != nil {
		w.leave(which.Build)
		return err
	}
	w.all.Go(func() {
		defer w.leave(build.ID)
		w.run(w.life, build, r)
	})
	return nil
}

// enter counts a build, so that no team has too many.
func (w *Works) enter(which Which) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	ours := 0
	for id, team := range w.under {
		if id == which.Build {
			return fault.New(fault.WrongState, "build %s was started already", id)
		}
		if team == which.Team {
			ours++
		}
	}
	switch {
	case w.life.Err() != nil:
		return fault.New(fault.Unavailable, "daemon is shutting down")
	case ours >= w.Team:
		return fault.New(fault.Limited, "the team has %d builds under way, as many as it may have", ours).
			Hint("wait for one, or raise limits.team_builds")
	}
	w.under[which.Build] = which.Team
	return nil
}

func (w *Works) leave(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.under, id)
}

// Get returns a build.
func (w *Works) Get(which Which) (record.Build, error) {
	return w.Book.Get(which.Team, which.Template, which.Build)
}

// Entries returns what a build has said of a level or above.
func (w *Works) Entries(which Which, least record.Level) ([]record.Entry, error) {
	if _, err := w.Get(which); err != nil {
		return nil, err
	}
	return w.Book.Entries(which.Build, least)
}

// run is the life of a build that was started.
func (w *Works) run(ctx context.Context, build record.Build, r recipe.Recipe) {
	log := w.Log.With("op", "build", "template", build.Template)
	out, err := w.Book.Log(build.ID)
	if err != nil {
		w.settle(ctx, build, err)
		return
	}
	defer func() {
		if err := out.Close(); err != nil {
			log.WarnContext(ctx, "log of a build is not whole", "err", err)
		}
	}()
	if err := w.turns.take(ctx, build.Team, func() { out.Say(record.Info, stepBase, "waiting for other builds") }); err != nil {
		w.settle(ctx, build, err)
		return
	}
	defer w.turns.giveBack(build.Team)
	limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within %s", limit))
	defer cancel()
	j := &job{Works: w, build: build, recipe: r, out: out}
	err = j.do(limited)
	if err != nil {
		log.InfoContext(ctx, "build failed", "err", err)
		out.Say(record.Error, blamed(err), reasonOf(ctx, err).Message)
	}
	w.settle(ctx, build, err)
}

// settle records how a build has ended.
func (w *Works) settle(ctx context.Context, build record.Build, err error) {
	event, reason := record.Finish, (*record.Reason)(nil)
	if err != nil {
		event, reason = record.Fail, reasonOf(ctx, err)
	}
	if _, err := w.Book.Move(context.WithoutCancel(ctx), build.ID, event, reason); err != nil {
		w.Log.ErrorContext(ctx, "end of a build is not recorded", "err", err)
	}
	if w.life.Err() == nil {
		w.sweep(ctx)
	}
}

// Steps that have no number.
const (
	stepBase  = "base"
	stepFinal = "finalize"
)

// stepError says which step is to blame.
type stepError struct {
	step string
	err  error
}

// Error implements error.
func (e *stepError) Error() string { return e.err.Error() }

// Unwrap returns what went wrong.
func (e *stepError) Unwrap() error { return e.err }

// at blames a step for an error; nil stays nil.
func at(step string, err error) error {
	if err == nil {
		return nil
	}
	return &stepError{step, err}
}

func blamed(err error) string {
	var e *stepError
	if errors.As(err, &e) {
		return e.step
	}
	return ""
}

// told is an error that is the client's to read: it says what happened in its
// machine.
type told struct{ error }

// Unwrap returns what it says.
func (t told) Unwrap() error { return t.error }

// reasonOf is what a client reads of an error. What has no kind and did not
// happen in its machine is the operator's business.
func reasonOf(ctx context.Context, err error) *record.Reason {
	r := &record.Reason{Message: "internal error", Step: blamed(err)}
	var t told
	switch {
	case ctx.Err() != nil:
		r.Message = "the daemon is shutting down"
	case errors.As(err, &t), fault.KindOf(err) != fault.Internal:
		r.Message = record.Plain(err.Error())
	}
	return r
}
