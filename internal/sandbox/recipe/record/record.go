// Package record keeps what is known of builds: who asked for which, how far
// each is, and what it said.
//
//	waiting ──start──► building ──finish──► ready
//	   │                  └──fail──► error
//	   └──fail──► error             (its time is over, or the daemon ended)
//
// A build is a folder with two files: build.json, which is replaced as a whole,
// and log, to which lines are added. So it survives the daemon; what was under
// way when that ended has failed, as Open says of it.
//
// record knows no machines. A Book is safe for concurrent use.
package record

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"bulkhead/internal/durable"
	"bulkhead/internal/fault"
)

// State is how far a build is, in the words of the API.
type State string

// The states.
const (
	Waiting  State = "waiting"
	Building State = "building"
	Ready    State = "ready"
	Failed   State = "error"
)

// Over reports whether nothing more will become of a build.
func (s State) Over() bool { return s == Ready || s == Failed }

// Event is what happens to a build.
type Event string

// The events.
const (
	Start  Event = "start"
	Finish Event = "finish"
	Fail   Event = "fail"
)

// Next is the state after an event; fault.WrongState for an event that does not
// fit.
func Next(from State, event Event) (State, error) {
	switch {
	case from == Waiting && event == Start:
		return Building, nil
	case from == Building && event == Finish:
		return Ready, nil
	case !from.Over() && event == Fail:
		return Failed, nil
	}
	return from, fault.New(fault.WrongState, "build is %s: it does not %s", from, event)
}

// Reason is why a build failed. Step is the number of a step, "base" or
// "finalize"; "" if none is to blame.
type Reason struct {
	Message string `json:"message"`
	Step    string `json:"step,omitempty"`
}

// Build is one build.
type Build struct {
	// ID is a UUID.
	ID   string `json:"id"`
	Team string `json:"team"`
	// Template is what is built, a name without team and tag.
	Template string   `json:"template"`
	Tags     []string `json:"tags"`
	// CPUs and MemoryMiB are as asked for; 0 for those of what it starts from.
	CPUs      int       `json:"cpus,omitempty"`
	MemoryMiB int       `json:"memory_mib,omitempty"`
	State     State     `json:"state"`
	Reason    *Reason   `json:"reason,omitempty"`
	Created   time.Time `json:"created"`
	// Changed is when it came into its state.
	Changed time.Time `json:"changed"`
}

const (
	buildFile = "build.json"
	logFile   = "log"
)

// interrupted is why a build failed that the daemon's end came into.
const interrupted = "the daemon ended while it was under way"

// How long builds are kept, and how many of each team.
const (
	startWithin = 24 * time.Hour
	keepFor     = 7 * 24 * time.Hour
	keepOfTeam  = 100
)

var idForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// Book has all builds.
type Book struct {
	dir   string
	clock func() time.Time
	// happened is told of each change of state.
	happened func(context.Context, Build)

	mu     sync.Mutex
	builds map[string]*Build // by id; guarded by mu
}

// Open reads the builds in a folder, which is made if it is not there. happened
// is told of each change of state, and must not call back.
func Open(ctx context.Context, dir string, clock func() time.Time, happened func(context.Context, Build)) (*Book, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open builds: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open builds: %w", err)
	}
	b := &Book{dir: dir, clock: clock, happened: happened, builds: map[string]*Build{}}
	for _, e := range entries {
		build, err := read(filepath.Join(dir, e.Name(), buildFile))
		if err != nil || build.ID != e.Name() { // a crash came before it was whole
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("remove what is no build: %w", err)
			}
			continue
		}
		b.builds[build.ID] = build
		if build.State == Building {
			if _, err := b.Move(ctx, build.ID, Fail, &Reason{Message: interrupted}); err != nil {
				return nil, err
			}
		}
	}
	return b, b.Sweep(ctx)
}

func read(path string) (*Build, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var b Build
	if err := json.Unmarshal(raw, &b); err != nil {
		return nil, err
	}
	if !idForm.MatchString(b.ID) {
		return nil, fs.ErrInvalid
	}
	return &b, nil
}

// Add adds a build, which waits from then on, with an id and times of its own.
func (b *Book) Add(ctx context.Context, build Build) (Build, error) {
	build.ID, build.State, build.Created = newID(), Waiting, b.clock()
	build.Changed = build.Created
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := os.Mkdir(filepath.Join(b.dir, build.ID), 0o700); err != nil {
		return build, fmt.Errorf("add build: %w", err)
	}
	if err := b.save(build); err != nil {
		return build, err
	}
	b.builds[build.ID] = &build
	b.happened(ctx, build)
	return build, nil
}

// save writes a build. mu is held.
func (b *Book) save(build Build) error {
	raw, err := json.Marshal(build)
	if err == nil {
		err = durable.WriteFile(filepath.Join(b.dir, build.ID, buildFile), raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("save build %s: %w", build.ID, err)
	}
	return nil
}

// Get returns the build of an id if it is of that template of that team;
// fault.NotFound if not.
func (b *Book) Get(team, template, id string) (Build, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	build, ok := b.builds[id]
	if !ok || build.Team != team || build.Template != template {
		return Build{}, fault.New(fault.NotFound, "build not found").Hint("ask for one with POST /v3/templates")
	}
	return *build, nil
}

// Count returns how many builds a team has in each state.
func (b *Book) Count(team string) map[State]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := map[State]int{}
	for _, build := range b.builds {
		if build.Team == team {
			n[build.State]++
		}
	}
	return n
}

// Known reports whether a team has a build of a template.
func (b *Book) Known(team, template string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, build := range b.builds {
		if build.Team == team && build.Template == template {
			return true
		}
	}
	return false
}

// Move applies an event to a build. reason is why it failed, if it did.
func (b *Book) Move(ctx context.Context, id string, event Event, reason *Reason) (Build, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was, ok := b.builds[id]
	if !ok {
		return Build{}, fault.New(fault.NotFound, "build not found")
	}
	to, err := Next(was.State, event)
	if err != nil {
		return *was, err
	}
	build := *was
	build.State, build.Reason, build.Changed = to, reason, b.clock()
	if err := b.save(build); err != nil {
		return *was, err
	}
	*was = build
	b.happened(ctx, build)
	return build, nil
}

// Sweep has builds fail that nobody has started in time, and forgets those that
// ended long ago or that are too many.
func (b *Book) Sweep(ctx context.Context) error {
	var late []string
	b.mu.Lock()
	now := b.clock()
	byTeam := map[string][]*Build{}
	for _, build := range b.builds {
		switch {
		case build.State == Waiting && now.Sub(build.Changed) > startWithin:
			late = append(late, build.ID)
		case build.State.Over():
			byTeam[build.Team] = append(byTeam[build.Team], build)
		}
	}
	var errs []error
	for _, over := range byTeam {
		slices.SortFunc(over, func(a, b *Build) int { return b.Changed.Compare(a.Changed) })
		for i, build := range over {
			if i < keepOfTeam && now.Sub(build.Changed) <= keepFor {
				continue
			}
			if err := os.RemoveAll(filepath.Join(b.dir, build.ID)); err != nil {
				errs = append(errs, err)
				continue
			}
			delete(b.builds, build.ID)
		}
	}
	b.mu.Unlock()
	for _, id := range late {
		_, err := b.Move(ctx, id, Fail, &Reason{Message: "nobody started it within a day"})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// newID makes up a UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
