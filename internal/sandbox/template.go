package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/unwind"
	"bulkhead/internal/vmm"
)

// BuildSpec says what template to build.
type BuildSpec struct {
	Name string
	// CPUs is 1 to 64; MemoryMiB an even number from 128 up; DiskMiB from
	// 1024 up.
	CPUs, MemoryMiB, DiskMiB int
	// Packages are Debian packages on top of those that every template has.
	Packages   []string
	BuildTools bool
}

// Image is what a template's machine boots from: plain files on the host.
type Image struct {
	Disk, Kernel, Initrd string
	// KernelRelease is what uname -r will say.
	KernelRelease string
	// Key is equal for images of equal content.
	Key string
}

// Images builds images. What it built before it may return at once.
type Images interface {
	Build(ctx context.Context, spec BuildSpec, progress Progress) (Image, error)
}

// Progress is told how a build goes on. Calls do not overlap.
type Progress func(Step)

// Step is a step of a build that begins or ends, or a line that it printed.
type Step struct {
	Name string
	// Number counts from 1; Of is how many steps there are in all.
	Number, Of int
	Done       bool
	Elapsed    time.Duration
	// Log is one line of output; with it, nothing begins or ends.
	Log string
}

// buildPrefix begins the ids of machines that exist only during a build.
const buildPrefix = "t"

// ownSteps is how many steps a build has after the image.
const ownSteps = 3

// Template returns the template of a name.
func (m *Manager) Template(ctx context.Context, name string) (Template, error) {
	all, err := m.Templates.Templates(ctx)
	if err != nil {
		return Template{}, fmt.Errorf("read templates: %w", err)
	}
	for _, t := range all {
		if t.Name == name {
			return t, nil
		}
	}
	return Template{}, fault.New(fault.NotFound, "template %q not found", clip(name)).
		Hint("bulkhead template ls, or: bulkhead template build base")
}

// RemoveTemplate removes a template. Sandboxes made from it keep what they
// have.
func (m *Manager) RemoveTemplate(ctx context.Context, name string) error {
	t, err := m.Template(ctx, name)
	if err != nil {
		return err
	}
	if err := m.Templates.DeleteTemplate(ctx, name); err != nil {
		return err
	}
	m.Events.Append(ctx, "template.removed", "", map[string]string{"template": name})
	return m.Pool.RemoveSnapshot(ctx, t.Snapshot)
}

// BuildTemplate builds a template, replacing one of the same name. Builds
// wait for each other. A cancelled or failed build leaves things as they
// were.
func (m *Manager) BuildTemplate(ctx context.Context, spec BuildSpec, progress Progress) (Template, error) {
	if err := m.checkBuild(spec); err != nil {
		return Template{}, err
	}
	ctx, cancel := m.underLife(ctx)
	defer cancel()
	select {
	case <-m.building:
		defer func() { m.building <- struct{}{} }()
	case <-ctx.Done():
		return Template{}, ctx.Err()
	}
	t, err := m.buildTemplate(ctx, spec, &stepper{tell: progress, clock: m.Clock})
	if err != nil {
		return Template{}, fmt.Errorf("build template %s: %w", spec.Name, err)
	}
	return t, nil
}

func (m *Manager) checkBuild(spec BuildSpec) error {
	if err := CheckName("template", spec.Name); err != nil {
		return err
	}
	host, err := hostMemoryMiB()
	if err != nil {
		return err
	}
	switch {
	case spec.CPUs < 1 || spec.CPUs > 64:
		return fault.New(fault.Invalid, "cpus %d: not within 1 to 64", spec.CPUs)
	case spec.MemoryMiB < 128 || spec.MemoryMiB%2 != 0:
		return fault.New(fault.Invalid, "memory %d MiB: not an even number from 128 up", spec.MemoryMiB)
	case spec.MemoryMiB > host:
		return fault.New(fault.Invalid, "memory %d MiB: the host has %d MiB", spec.MemoryMiB, host)
	case spec.DiskMiB < 1024 || spec.DiskMiB > 16<<20:
		return fault.New(fault.Invalid, "disk %d MiB: not within 1024 to 16777216", spec.DiskMiB)
	}
	return nil
}

func (m *Manager) buildTemplate(ctx context.Context, spec BuildSpec, steps *stepper) (t Template, err error) {
	img, err := m.Images.Build(ctx, spec, steps.relay)
	if err != nil {
		return t, err
	}
	version, err := m.Driver.Version(ctx)
	if err != nil {
		return t, err
	}
	t = Template{
		Name: spec.Name, CPUs: spec.CPUs, MemoryMiB: spec.MemoryMiB, DiskMiB: spec.DiskMiB,
		Kernel: img.KernelRelease, Accel: string(version.Accel), Created: m.Clock(),
	}
	cache := filepath.Join(m.CacheDir, "templates", templateKey(spec, img, version))
	snap, err := m.importTemplate(ctx, cache, steps)
	if errors.Is(err, fs.ErrNotExist) {
		snap, err = m.prepare(ctx, spec, img, steps)
		if err == nil {
			m.cacheTemplate(ctx, snap.ID, cache)
		}
	}
	if err != nil {
		return t, err
	}
	t.Snapshot = snap.ID
	return t, m.publish(ctx, t)
}

// cacheTemplate keeps a copy for later builds. A cache that cannot be written
// costs time, not correctness.
func (m *Manager) cacheTemplate(ctx context.Context, snap pool.SnapshotID, dir string) {
	err := os.MkdirAll(filepath.Dir(dir), 0o700)
	if err == nil {
		err = m.Pool.Export(ctx, snap, dir)
	}
	if err != nil {
		m.Log.WarnContext(ctx, "template not cached", "snapshot", string(snap), "err", err)
	}
}

// publish makes t the template of its name and removes what it replaces.
func (m *Manager) publish(ctx context.Context, t Template) error {
	old, olderr := m.Template(ctx, t.Name)
	if err := m.Templates.SaveTemplate(ctx, t); err != nil {
		return errors.Join(err, m.Pool.RemoveSnapshot(context.WithoutCancel(ctx), t.Snapshot))
	}
	m.Events.Append(ctx, "template.built", "", map[string]string{"template": t.Name, "snapshot": string(t.Snapshot)})
	if olderr != nil {
		return nil
	}
	return m.Pool.RemoveSnapshot(ctx, old.Snapshot)
}

func (m *Manager) importTemplate(ctx context.Context, cache string, steps *stepper) (pool.Snapshot, error) {
	if _, err := os.Stat(cache); err != nil {
		return pool.Snapshot{}, err
	}
	defer steps.begin("copy prepared machine from cache", ownSteps)()
	snap, err := m.Pool.Import(ctx, cache)
	if fault.Is(err, fault.Corrupt) {
		m.Log.WarnContext(ctx, "cached template is corrupt, building anew", "err", err)
		return snap, errors.Join(fs.ErrNotExist, os.RemoveAll(cache))
	}
	return snap, err
}

// prepare boots a machine from the image, waits until it is up, and takes the
// snapshot that sandboxes will start from.
func (m *Manager) prepare(ctx context.Context, spec BuildSpec, img Image, steps *stepper) (snap pool.Snapshot, err error) {
	id := buildPrefix + randomString(20)
	var undo unwind.Stack
	undo.Add("remove build machine", func(ctx context.Context) error { return m.discardBuild(ctx, id) })
	defer func() {
		if uerr := undo.Run(ctx); err == nil {
			err = uerr
		}
	}()
	if err := m.Journal.Begin(ctx, id, m.runDir(id)); err != nil {
		return snap, err
	}
	l, err := m.bootImage(ctx, id, spec, img, steps)
	if err != nil {
		return snap, err
	}
	done := steps.begin("wait for the system to be up", 0)
	if err := awaitUp(ctx, l.guest); err != nil {
		return snap, err
	}
	done()
	defer steps.begin("take the snapshot", 0)()
	snap, _, err = m.take(ctx, l, pool.MachineID(id), pool.Meta{
		Name: spec.Name, Cause: CauseTemplate, CPUs: spec.CPUs, MemoryMiB: spec.MemoryMiB,
	})
	l.guest.Close()
	return snap, err
}

func (m *Manager) bootImage(ctx context.Context, id string, spec BuildSpec, img Image, steps *stepper) (*live, error) {
	defer steps.begin("boot the machine", 0)()
	_, err := m.Pool.ImportMachine(ctx, pool.MachineID(id), pool.Source{
		Disk: img.Disk, Kernel: img.Kernel, Initrd: img.Initrd,
		DiskBytes: int64(spec.DiskMiB) << 20, MemoryBytes: int64(spec.MemoryMiB) << 20,
	})
	if err != nil {
		return nil, err
	}
	_, vmspec, err := m.prepareRun(Record{ID: ID(id), CPUs: spec.CPUs, MemoryMiB: spec.MemoryMiB})
	if err != nil {
		return nil, err
	}
	return m.boot(ctx, vmspec, nil)
}

func (m *Manager) discardBuild(ctx context.Context, id string) error {
	if err := m.Driver.Reap(ctx, m.runDir(id)); err != nil {
		return fmt.Errorf("end VMM: %w", err)
	}
	if err := os.RemoveAll(m.runDir(id)); err != nil {
		return fmt.Errorf("remove run directory: %w", err)
	}
	if err := m.Pool.RemoveMachine(ctx, pool.MachineID(id)); err != nil {
		return err
	}
	return m.Journal.End(ctx, id)
}

// awaitUp waits until the image's init says that the system is up. A system
// with failed units is up too; which ones failed is the template's matter.
func awaitUp(ctx context.Context, g Guest) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := g.Status(ctx)
		if err != nil {
			return fmt.Errorf("ask for the system's state: %w", err)
		}
		switch s.GetInitState() {
		case "running", "degraded", "none":
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("system is %q: %w", s.GetInitState(), ctx.Err())
		}
	}
}

// templateKey is equal for templates that would come out the same on this
// host.
func templateKey(spec BuildSpec, img Image, v vmm.Version) string {
	b, err := json.Marshal([]any{spec.CPUs, spec.MemoryMiB, img.Key, v})
	if err != nil {
		panic(err) // plain numbers and strings always encode
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// stepper numbers the steps of a build and times them.
type stepper struct {
	tell   Progress
	clock  func() time.Time
	number int
	of     int
}

// relay passes on the steps of the image and adds ours to their number.
func (s *stepper) relay(step Step) {
	if step.Number > 0 {
		s.number = step.Number
		step.Of += ownSteps
		s.of = step.Of
	}
	s.tell(step)
}

// begin starts a step that stands for count of our own (0 means 1), and
// returns what ends it.
func (s *stepper) begin(name string, count int) (end func()) {
	s.number += max(count, 1)
	s.of = max(s.of, s.number)
	step := Step{Name: name, Number: s.number, Of: s.of}
	began := s.clock()
	s.tell(step)
	return func() {
		step.Done, step.Elapsed = true, s.clock().Sub(began)
		s.tell(step)
	}
}
