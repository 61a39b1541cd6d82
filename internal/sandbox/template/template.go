// Package template prepares the machines that sandboxes start from: an image
// is booted once, and the snapshot of the system that came up is kept.
//
//	image ──ImportMachine──► machine ──Boot, up──► snapshot ──► template
//	                                                  └──Export──► cache
//
// The cache holds prepared snapshots across state directories under a key of
// all that goes into one, so the second build of a template copies files.
//
// template knows machines as package live runs them, and images by the
// interface below. A Builder is safe for concurrent use; builds wait for each
// other.
package template

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/recipe"
	"bulkhead/internal/sandbox/risk"
	"bulkhead/internal/sandbox/schedule"
)

// Cause marks the snapshots of templates.
const Cause = "template"

// buildPrefix begins the ids of machines that exist only during a build.
const buildPrefix = "t"

// Template is a prepared machine.
type Template struct {
	Name     string
	Snapshot pool.SnapshotID
	Created  time.Time
	// Size and DiskMiB are those of machines made from it.
	Size    live.Size
	DiskMiB int
	// Kernel is the release of the guest's kernel: "6.1.0-56-cloud-amd64".
	Kernel string
	Accel  string
	// Schedule is what sandboxes made from it begin with.
	Schedule schedule.Schedule `json:",omitzero"`
	// Origin is the sandbox that it is a moment of; "" for one that was built.
	Origin string `json:",omitempty"`
	// Team is whose that is; "" for what belongs to the whole host.
	Team string `json:",omitempty"`
	// Build is the id of the build that it came from; "" if none of a recipe.
	Build string `json:",omitempty"`
	// Defaults is what holds in sandboxes made from it for clients that do not
	// say.
	Defaults recipe.Defaults `json:",omitzero"`
}

// Label is a part of the name that can begin the name of a sandbox.
func (t Template) Label() string {
	_, label, ofTeam := strings.Cut(t.Name, "/")
	if !ofTeam {
		label = t.Name
	}
	label, _, _ = strings.Cut(label, ":")
	label = strings.Trim(strings.ReplaceAll(label, "_", "-"), "-")
	if label == "" {
		return "sandbox"
	}
	return label
}

// Store keeps templates by name.
type Store interface {
	SaveTemplate(ctx context.Context, t Template) error
	DeleteTemplate(ctx context.Context, name string) error
	Templates(ctx context.Context) ([]Template, error)
}

// Events records what happened.
type Events interface {
	Append(ctx context.Context, typ, id string, fields map[string]string)
}

// Image is what a template's machine boots from: plain files on the host.
type Image struct {
	Disk, Kernel, Initrd string
	// KernelRelease is what uname -r will say.
	KernelRelease string
	// Key is equal for images of equal content.
	Key string
	// Env is what a container image's programs are to have. It is a stranger's.
	Env map[string]string
}

// Images builds images. What it built before it may return at once.
type Images interface {
	Build(ctx context.Context, spec Spec, progress Progress) (Image, error)
}

// Builder builds templates and looks after them.
type Builder struct {
	*live.Runner
	Store  Store
	Events Events
	Images Images
	// Cache is the folder that outlives state directories.
	Cache string
	// Most is how many one team may have; 0 is no limit.
	Most int

	building chan struct{} // holds a token for whoever builds
}

// New returns b, ready to use.
func New(b Builder) *Builder {
	b.building = make(chan struct{}, 1)
	b.building <- struct{}{}
	return &b
}

// List returns every template by name.
func (b *Builder) List(ctx context.Context) ([]Template, error) { return b.Store.Templates(ctx) }

// Get returns the template of a name.
func (b *Builder) Get(ctx context.Context, name string) (Template, error) {
	all, err := b.List(ctx)
	if err != nil {
		return Template{}, fmt.Errorf("read templates: %w", err)
	}
	for _, t := range all {
		if t.Name == name {
			return t, nil
		}
	}
	return Template{}, fault.New(fault.NotFound, "template %q not found", name).
		Hint("bulkhead template ls, or: bulkhead template build base")
}

// SetSchedule changes what sandboxes begin with that are made from a template
// from now on. A time to live is for one sandbox: fault.Invalid.
func (b *Builder) SetSchedule(ctx context.Context, name string, s schedule.Schedule) (Template, error) {
	if !s.Expires.IsZero() {
		return Template{}, fault.New(fault.Invalid, "a template has no time to live").Hint("give it to each sandbox: bulkhead schedule SANDBOX --ttl 8h")
	}
	t, err := b.Get(ctx, name)
	if err == nil {
		t.Schedule, err = s.Normal()
	}
	if err == nil {
		err = risk.Check(t.Schedule.Before.Commands)
	}
	if err != nil {
		return Template{}, err
	}
	return t, b.Store.SaveTemplate(ctx, t)
}

// Remove removes a template. Sandboxes made from it keep what they have.
func (b *Builder) Remove(ctx context.Context, name string) error {
	t, err := b.Get(ctx, name)
	if err != nil {
		return err
	}
	if err := b.Store.DeleteTemplate(ctx, name); err != nil {
		return err
	}
	b.Events.Append(ctx, "template.removed", "", map[string]string{"template": name})
	return b.release(ctx, t.Snapshot)
}

// Room refuses a team one template more than it may have: fault.Limited. What is
// of no team, or replaces one of its name, is none more.
func (b *Builder) Room(ctx context.Context, team, name string) error {
	if b.Most == 0 || team == "" {
		return nil
	}
	all, err := b.List(ctx)
	if err != nil {
		return fmt.Errorf("read templates: %w", err)
	}
	have := 0
	for _, t := range all {
		if t.Name == name {
			return nil
		}
		if t.Team == team {
			have++
		}
	}
	if have >= b.Most {
		return fault.New(fault.Limited, "the team has %d templates and published snapshots, as many as it may have", have).
			Hint("remove one (bulkhead template rm), or raise limits.team_templates")
	}
	return nil
}

// Publish makes t the template of its name and removes what it replaces. On
// error the snapshot of t is gone, unless another template has it too.
func (b *Builder) Publish(ctx context.Context, t Template) error {
	old, olderr := b.Get(ctx, t.Name)
	t.Schedule = old.Schedule
	err := b.Room(ctx, t.Team, t.Name)
	if err == nil {
		err = b.Store.SaveTemplate(ctx, t)
	}
	if err != nil {
		return errors.Join(err, b.release(context.WithoutCancel(ctx), t.Snapshot))
	}
	b.Events.Append(ctx, "template.built", t.Origin, map[string]string{"template": t.Name, "snapshot": string(t.Snapshot)})
	if olderr != nil || old.Snapshot == t.Snapshot {
		return nil
	}
	return b.release(ctx, old.Snapshot)
}

// release removes a snapshot that no template names any more.
func (b *Builder) release(ctx context.Context, id pool.SnapshotID) error {
	all, err := b.List(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(t Template) bool { return t.Snapshot == id }) {
		return nil
	}
	return b.Pool.RemoveSnapshot(ctx, id)
}

// Owns reports whether a machine belongs to a build.
func Owns(id pool.MachineID) bool { return len(id) > 0 && string(id[:1]) == buildPrefix }

// Sweep removes what builds of an earlier daemon left: those of the machines
// that are theirs, and snapshots that no template names yet.
func (b *Builder) Sweep(ctx context.Context, machines []pool.MachineID) error {
	for _, id := range machines {
		if !Owns(id) {
			continue
		}
		b.Log.InfoContext(ctx, "removed what a build left", "sandbox", string(id))
		if err := b.Discard(ctx, id); err != nil {
			return err
		}
	}
	all, err := b.List(ctx)
	if err != nil {
		return fmt.Errorf("read templates: %w", err)
	}
	used := map[pool.SnapshotID]bool{}
	for _, t := range all {
		used[t.Snapshot] = true
	}
	snaps, err := b.Pool.Snapshots()
	if err != nil {
		return err
	}
	for _, s := range snaps {
		if s.Cause == Cause && !used[s.ID] {
			b.Log.InfoContext(ctx, "removed an unused template snapshot", "snapshot", string(s.ID))
			if err := b.Pool.RemoveSnapshot(ctx, s.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// NewMachineID makes up an id for a machine that exists only during a build.
func NewMachineID() pool.MachineID {
	b := make([]byte, 10)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return pool.MachineID(buildPrefix + hex.EncodeToString(b))
}
