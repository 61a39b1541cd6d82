package template

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
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/recipe"
	"bulkhead/internal/vmm"

	"golang.org/x/sys/unix"
)

// Spec says what template to build.
type Spec struct {
	Name string
	// CPUs is 1 to 64; MemoryMiB an even number from 128 up; DiskMiB from
	// 1024 up.
	live.Size
	DiskMiB int
	// Packages are Debian packages on top of those that every template has.
	Packages   []string
	BuildTools bool
	// From is a container image to build on, instead of Debian's packages; the
	// zero value for none.
	From Remote
}

// Remote is a container image in a registry, and who asks for it. It is in
// memory alone.
type Remote struct {
	Reference, Username, Password string
}

// String leaves out what nobody may read.
func (r Remote) String() string { return r.Reference }

func (s Spec) check() error {
	var host unix.Sysinfo_t
	if err := unix.Sysinfo(&host); err != nil {
		return fmt.Errorf("read the host's memory: %w", err)
	}
	hostMiB := int(host.Totalram * uint64(host.Unit) >> 20)
	switch {
	case s.CPUs < 1 || s.CPUs > 64:
		return fault.New(fault.Invalid, "cpus %d: not within 1 to 64", s.CPUs)
	case s.MemoryMiB < 128 || s.MemoryMiB%2 != 0:
		return fault.New(fault.Invalid, "memory %d MiB: not an even number from 128 up", s.MemoryMiB)
	case s.MemoryMiB > hostMiB:
		return fault.New(fault.Invalid, "memory %d MiB: the host has %d MiB", s.MemoryMiB, hostMiB)
	case s.DiskMiB < 1024 || s.DiskMiB > 16<<20:
		return fault.New(fault.Invalid, "disk %d MiB: not within 1024 to 16777216", s.DiskMiB)
	}
	return nil
}

// Build builds a template, replacing one of the same name. A cancelled or
// failed build leaves things as they were.
func (b *Builder) Build(ctx context.Context, spec Spec, progress Progress) (Template, error) {
	base, err := b.Prepare(ctx, spec, progress)
	if err == nil {
		err = b.Publish(ctx, base.Template)
	}
	if err != nil {
		return Template{}, fmt.Errorf("build template %s: %w", spec.Name, err)
	}
	return base.Template, nil
}

// Base is what templates are built on.
type Base struct {
	Template
	// Key is equal for machines that were prepared of equal images in the same way;
	// the snapshot's id for a template that has a name.
	Key string
}

// Prepare is Build of a template that no name leads to: it is gone when the daemon
// starts again, or once it is given to Release.
func (b *Builder) Prepare(ctx context.Context, spec Spec, progress Progress) (Base, error) {
	if err := spec.check(); err != nil {
		return Base{}, err
	}
	select {
	case <-b.building:
		defer func() { b.building <- struct{}{} }()
	case <-ctx.Done():
		return Base{}, ctx.Err()
	}
	return b.build(ctx, spec, &stepper{tell: progress, clock: b.Clock})
}

// Release removes what Prepare has made, unless it has become a template.
func (b *Builder) Release(ctx context.Context, base Base) error { return b.release(ctx, base.Snapshot) }

func (b *Builder) build(ctx context.Context, spec Spec, steps *stepper) (base Base, err error) {
	img, err := b.Images.Build(ctx, spec, steps.relay)
	if err != nil {
		return base, err
	}
	version, err := b.Driver.Version(ctx)
	if err != nil {
		return base, err
	}
	of := key(spec, img, version)
	cache := filepath.Join(b.Cache, "templates", of)
	snap, err := b.fromCache(ctx, cache, steps)
	if errors.Is(err, fs.ErrNotExist) {
		if snap, err = b.prepare(ctx, spec, img, steps); err == nil {
			b.toCache(ctx, snap.ID, cache)
		}
	}
	if err != nil {
		return base, err
	}
	return Base{Template{
		Name: spec.Name, Snapshot: snap.ID, Created: b.Clock(), Size: spec.Size, DiskMiB: spec.DiskMiB,
		Kernel: img.KernelRelease, Accel: string(version.Accel), Defaults: recipe.Defaults{Env: img.Env},
	}, of}, nil
}

func (b *Builder) fromCache(ctx context.Context, dir string, steps *stepper) (pool.Snapshot, error) {
	if _, err := os.Stat(dir); err != nil {
		return pool.Snapshot{}, err
	}
	defer steps.begin("copy the prepared machine from the cache", ownSteps)()
	snap, err := b.Pool.Import(ctx, dir)
	if fault.Is(err, fault.Corrupt) {
		b.Log.WarnContext(ctx, "cached template is corrupt, building anew", "err", err)
		return snap, errors.Join(fs.ErrNotExist, os.RemoveAll(dir))
	}
	return snap, err
}

// toCache keeps a copy for later builds. A cache that cannot be written costs
// time, not correctness.
func (b *Builder) toCache(ctx context.Context, snap pool.SnapshotID, dir string) {
	err := os.MkdirAll(filepath.Dir(dir), 0o700)
	if err == nil {
		err = b.Pool.Export(ctx, snap, dir)
	}
	if err != nil {
		b.Log.WarnContext(ctx, "template not cached", "snapshot", string(snap), "err", err)
	}
}

// prepare boots a machine from the image, waits until it is up, and takes the
// snapshot that sandboxes will start from. Nothing else of it stays.
func (b *Builder) prepare(ctx context.Context, spec Spec, img Image, steps *stepper) (snap pool.Snapshot, err error) {
	id := NewMachineID()
	defer func() { err = errors.Join(err, b.Discard(context.WithoutCancel(ctx), id)) }()
	if err := b.Claim(ctx, id); err != nil {
		return snap, err
	}
	m, err := b.boot(ctx, id, spec, img, steps)
	if err != nil {
		return snap, err
	}
	defer m.Disconnect()
	done := steps.begin("wait for the system to be up", 1)
	if err := AwaitUp(ctx, m.Guest); err != nil {
		return snap, err
	}
	done()
	defer steps.begin("take the snapshot", 1)()
	snap, _, err = b.Take(ctx, m, id, pool.Meta{
		Name: spec.Name, Cause: Cause, CPUs: spec.CPUs, MemoryMiB: spec.MemoryMiB,
	})
	return snap, err
}

func (b *Builder) boot(ctx context.Context, id pool.MachineID, spec Spec, img Image, steps *stepper) (*live.Machine, error) {
	defer steps.begin("boot the machine", 1)()
	_, err := b.Pool.ImportMachine(ctx, id, pool.Source{
		Disk: img.Disk, Kernel: img.Kernel, Initrd: img.Initrd,
		DiskBytes: int64(spec.DiskMiB) << 20, MemoryBytes: int64(spec.MemoryMiB) << 20,
	})
	if err != nil {
		return nil, err
	}
	return b.Boot(ctx, id, spec.Size, nil)
}

// AwaitUp waits until the image's init says that the system is up. A system
// with failed units is up too; which ones failed is the image's matter.
func AwaitUp(ctx context.Context, g live.Guest) error {
	ctx, cancel := context.WithTimeout(ctx, live.BootTimeout)
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

// revision goes up when machines are prepared in another way from the same
// parts: cached ones are then built anew.
const revision = 2

// key is equal for templates that would come out the same on this host.
func key(spec Spec, img Image, v vmm.Version) string {
	b, err := json.Marshal([]any{revision, spec.Size, img.Key, v})
	if err != nil {
		panic(err) // plain numbers and strings always encode
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
