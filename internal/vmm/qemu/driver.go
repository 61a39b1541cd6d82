// Package qemu runs machines in QEMU's microvm machine type, with KVM or with
// its software translator TCG.
//
// A VMM is a process in a cage that outlives us. Everything that is needed to
// find it again and to speak to it lies in its run directory: three sockets,
// its console and the record of its cage.
//
// qemu knows paths and numbers: no sandbox, no pool, no guest protocol. A
// Driver is safe for concurrent use.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead/internal/jail"
	"bulkhead/internal/unwind"
	"bulkhead/internal/vmm"
)

// bootTries is how often a silent boot is tried, bootSilence how long it may
// be silent: the first line comes within half a second on an idle machine.
const (
	bootTries   = 3
	bootSilence = 20 * time.Second
)

// Config says which QEMU to run and how.
type Config struct {
	// Binary is QEMU's path; "" means DefaultBinary.
	Binary string
	Accel  vmm.Accel
	// Jail is where VMMs run.
	Jail *jail.Jail
	Log  *slog.Logger
}

// DefaultBinary is where Debian's package puts QEMU.
const DefaultBinary = "/usr/bin/qemu-system-x86_64"

// Driver is the vmm.Driver for QEMU.
type Driver struct {
	cfg     Config
	version func() (string, error)
	tsc     func() uint64
}

// New returns a driver. It starts nothing.
func New(cfg Config) *Driver {
	if cfg.Binary == "" {
		cfg.Binary = DefaultBinary
	}
	return &Driver{
		cfg: cfg, tsc: sync.OnceValue(tscKHz),
		version: sync.OnceValues(func() (string, error) { return askVersion(cfg.Binary) }),
	}
}

// Version implements vmm.Driver.
func (d *Driver) Version(context.Context) (vmm.Version, error) {
	v, err := d.version()
	if err != nil {
		return vmm.Version{}, err
	}
	cpu := d.cpu()
	if d.cfg.Accel == vmm.KVM {
		if cpu, err = hostCPU(); err != nil {
			return vmm.Version{}, err
		}
	}
	return vmm.Version{Driver: "qemu", VMM: v, Machine: machineType + " with tap and elastic balloon", Accel: d.cfg.Accel, CPU: cpu}, nil
}

func askVersion(binary string) (string, error) {
	out, err := exec.Command(binary, "-version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", binary, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(line, "QEMU emulator version "), nil
}

// hostCPU names the host's CPU: with KVM the guest sees it as it is.
func hostCPU() (string, error) {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t: ")), nil
		}
	}
	return "unknown", nil
}

// Boot implements vmm.Driver.
func (d *Driver) Boot(ctx context.Context, spec vmm.Spec) (vmm.Machine, error) {
	for try := 1; ; try++ {
		m, err := d.bootOnce(ctx, spec)
		if !errors.Is(err, vmm.ErrSilent) || try == bootTries {
			return orNil(m, err)
		}
		d.cfg.Log.WarnContext(ctx, "boot was silent, trying again", "sandbox", spec.ID, "try", try)
	}
}

func (d *Driver) bootOnce(ctx context.Context, spec vmm.Spec) (m *Machine, err error) {
	var undo unwind.Stack
	defer undo.OnError(ctx, &err)
	if m, err = d.start(ctx, spec, false); err != nil {
		return nil, err
	}
	undo.Add("kill VMM", m.Kill)
	silence := time.NewTimer(bootSilence)
	defer silence.Stop()
	select {
	case <-m.console.spoke:
		return m, nil
	case <-silence.C:
		return nil, fmt.Errorf("boot %s: %w", spec.ID, vmm.ErrSilent)
	case <-m.Done():
		return nil, fmt.Errorf("boot %s: %s", spec.ID, m.Exit().Reason)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Restore implements vmm.Driver.
func (d *Driver) Restore(ctx context.Context, spec vmm.Spec, state string) (vmm.Machine, error) {
	m, err := d.restore(ctx, spec, state)
	return orNil(m, err)
}

func (d *Driver) restore(ctx context.Context, spec vmm.Spec, state string) (m *Machine, err error) {
	var undo unwind.Stack
	defer undo.OnError(ctx, &err)
	file, err := os.Open(state)
	if err != nil {
		return nil, fmt.Errorf("open saved state: %w", err)
	}
	defer file.Close()
	if m, err = d.start(ctx, spec, true); err != nil {
		return nil, err
	}
	undo.Add("kill VMM", m.Kill)
	// The guest was saved with a host at its channel. With one there again
	// before it is loaded it sees no change; without, it is told that the host
	// has gone, and takes its time to look again.
	if m.early, err = m.dialGuest(ctx); err != nil {
		return nil, fmt.Errorf("connect guest channel: %w", err)
	}
	err = m.migrate(ctx, "migrate-incoming", file)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("load state: %w", ctx.Err())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w%s", vmm.ErrIncompatible, err, m.lastWords())
	}
	return m, nil
}

// start launches QEMU and connects to it. On error nothing runs.
func (d *Driver) start(ctx context.Context, spec vmm.Spec, incoming bool) (m *Machine, err error) {
	var undo unwind.Stack
	defer undo.OnError(ctx, &err)
	if err := spec.Check(); err != nil {
		return nil, err
	}
	c, err := d.Cage(spec)
	if err != nil {
		return nil, err
	}
	c.Args = d.argv(spec, incoming)
	listeners, err := listen(spec.RunDir)
	if err != nil {
		return nil, err
	}
	defer closeAll(listeners)
	c.Inherit = listeners
	if spec.Tap != nil {
		c.Inherit = append(slices.Clone(listeners), spec.Tap)
	}
	p, err := d.cfg.Jail.Start(ctx, c)
	if err != nil {
		return nil, err
	}
	undo.Add("kill VMM", p.Kill)
	closeAll(listeners) // else a VMM that ends would leave them waiting
	return d.connect(ctx, spec, p)
}

// Attach implements vmm.Driver.
func (d *Driver) Attach(ctx context.Context, spec vmm.Spec) (vmm.Machine, error) {
	p, err := d.cfg.Jail.Find(ctx, spec.RunDir)
	if err != nil {
		return nil, err
	}
	m, err := d.connect(ctx, spec, p)
	return orNil(m, err)
}

// Reap implements vmm.Driver.
func (d *Driver) Reap(ctx context.Context, runDir string) error {
	return d.cfg.Jail.Reap(ctx, runDir)
}

// orNil keeps a nil *Machine from becoming a vmm.Machine that is not nil.
func orNil(m *Machine, err error) (vmm.Machine, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}
