// Package build shows the works in the words of the wire, and says what builds
// start from (Bases). It translates and decides nothing else.
package build

import (
	"context"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"bulkhead/internal/sandbox/recipe"
	"bulkhead/internal/sandbox/recipe/record"
	"bulkhead/internal/sandbox/recipe/upload"
	"bulkhead/internal/sandbox/recipe/works"
	"bulkhead/internal/server/e2b/builds"
)

// Limits of what teams send, in bytes: of files for one step, and of all.
const (
	MaxFiles    = 2 << 30
	MaxTeamKeep = 8 << 30
)

// Folders returns where builds and what is sent for them are kept.
func Folders(stateDir string) (records, uploads string) {
	dir := filepath.Join(stateDir, "builds")
	return filepath.Join(dir, "records"), filepath.Join(dir, "uploads")
}

// Told tells of each change of a build's state.
func Told(event func(ctx context.Context, typ, id string, fields map[string]string)) func(context.Context, record.Build) {
	return func(ctx context.Context, b record.Build) {
		fields := map[string]string{"build": b.ID, "template": b.Template, "team": b.Team, "tags": strings.Join(b.Tags, " ")}
		for name, n := range map[string]int{"cpus": b.CPUs, "memory_mib": b.MemoryMiB} {
			if n != 0 {
				fields[name] = strconv.Itoa(n)
			}
		}
		if b.Reason != nil {
			fields["reason"], fields["step"] = b.Reason.Message, b.Reason.Step
		}
		event(ctx, kinds()[b.State], "", fields)
	}
}

// kinds are what the events are called that bring a build into a state.
func kinds() map[record.State]string {
	return map[record.State]string{
		record.Waiting: "build.requested", record.Building: "build.started", record.Ready: "build.finished", record.Failed: "build.failed",
	}
}

// Builder is the wire's Builder on the works.
type Builder struct{ Works *works.Works }

// Request implements builds.Builder.
func (b Builder) Request(ctx context.Context, r builds.Request) (builds.Build, error) {
	is, err := b.Works.Request(ctx, works.Request(r))
	return shown(is), err
}

// Grant implements builds.Builder.
func (b Builder) Grant(_ context.Context, f builds.Files) (present bool, token string, err error) {
	return b.Works.Grant(f.Team, f.Template, f.Hash)
}

// Receive implements builds.Builder.
func (b Builder) Receive(ctx context.Context, token string, f builds.Files, length int64, body io.Reader) error {
	return b.Works.Receive(ctx, token, upload.Grant{Template: f.Template, Hash: f.Hash}, length, body)
}

// Start implements builds.Builder.
func (b Builder) Start(ctx context.Context, w builds.Which, r builds.Recipe) error {
	to := recipe.Recipe{
		Image: recipe.Image{Ref: r.Image, Registry: recipe.Registry{
			Kind: r.Registry.Type, User: r.Registry.Username, Password: r.Registry.Password, Account: r.Registry.ServiceAccountJSON,
		}},
		Template: r.Template, Force: r.Force, Start: r.Start, Ready: r.Ready,
	}
	for _, s := range r.Steps {
		to.Steps = append(to.Steps, recipe.Step{Kind: recipe.Kind(strings.ToUpper(s.Type)), Args: s.Args, Files: s.FilesHash, Force: s.Force})
	}
	return b.Works.Start(ctx, works.Which(w), to)
}

// Get implements builds.Builder.
func (b Builder) Get(_ context.Context, w builds.Which) (builds.Build, error) {
	is, err := b.Works.Get(works.Which(w))
	return shown(is), err
}

func shown(b record.Build) builds.Build {
	w := builds.Build{ID: b.ID, Status: string(b.State)}
	if b.Reason != nil {
		w.Message, w.Step = b.Reason.Message, b.Reason.Step
	}
	return w
}

// Entries implements builds.Builder.
func (b Builder) Entries(_ context.Context, w builds.Which, level string) ([]builds.Entry, error) {
	said, err := b.Works.Entries(works.Which(w), record.Level(level))
	all := make([]builds.Entry, 0, len(said))
	for _, e := range said {
		all = append(all, builds.Entry{Timestamp: e.Time, Message: e.Message, Level: string(e.Level), Step: e.Step})
	}
	return all, err
}
