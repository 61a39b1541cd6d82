// Package live is about machines that run: starting one so that it is right
// before anything in it runs, taking one moment of it, and releasing all that
// it has on the host.
//
// A running machine is a VMM and a connection to the agent in its guest. Both
// sandboxes and the building of templates are made of it. live knows no
// records, names or states; it knows the contracts of vmm and pool, and the
// guest by the interface below. A Runner is safe for concurrent use; a Machine
// belongs to one owner.
package live

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bulkhead/internal/pool"
	"bulkhead/internal/unwind"
	"bulkhead/internal/vmm"
	"bulkhead/proto/machine"
)

// Bounds on what a guest may take. They are generous because guests under a
// software translator on a busy host are slow; a guest that exceeds them is
// broken.
const (
	// restoreTimeout covers the first answer of a restored machine: 0.3 s
	// measured when idle.
	restoreTimeout = 30 * time.Second
	// BootTimeout covers kernel, init and agent: 15 s measured when idle.
	BootTimeout = 4 * time.Minute
	// guestTimeout covers one call to a running guest.
	guestTimeout = 30 * time.Second
)

// Guest is the inside of one running machine.
type Guest interface {
	// Status says whether the machine has booted and is frozen.
	Status(ctx context.Context) (*machine.StatusResponse, error)
	// Sync writes dirty file data to the disk.
	Sync(ctx context.Context) error
	// Freeze stops every process but the agent.
	Freeze(ctx context.Context) error
	// Resume corrects clock and randomness, takes on identity and trust unless
	// they are nil, then thaws. Nil means that the guest confirmed all of it.
	Resume(ctx context.Context, identity *machine.Identity, trust *machine.Trust) error
	// Transport carries HTTP to the guest's services.
	Transport() http.RoundTripper
	// Session ends with the connection. Its cause is why: context.Canceled if
	// Close ended it.
	Session() context.Context
	// Close ends the connection and waits for nobody; repeating it is no error.
	Close() error
}

// Journal remembers that the VMM of a machine may exist. Begin comes before
// it is started, End after it is gone; both may be repeated.
type Journal interface {
	Begin(ctx context.Context, owner, runDir string) error
	End(ctx context.Context, owner string) error
	// Owners lists whose VMM may exist.
	Owners(ctx context.Context) ([]string, error)
}

// Network is what machines are connected to.
type Network interface {
	// Open makes the network of a machine that is about to start.
	Open(ctx context.Context, id string) (Link, error)
	// Attach takes over the network of a machine that runs already. It is
	// fs.ErrNotExist if it has none.
	Attach(ctx context.Context, id string) (Link, error)
	// Inherit gives a machine that is about to be made what another may talk
	// to, and what it was told about names.
	Inherit(ctx context.Context, from, to string) error
	// Isolate has a machine that is about to be made talk to nobody.
	Isolate(ctx context.Context, id string) error
	// Renew makes void what a machine was given of secrets. It comes before the
	// machine is started as it was at an earlier time.
	Renew(ctx context.Context, id string) error
	// Unlink ends the network of a machine that does not run any more. What it
	// may talk to stays. Finding nothing is no error.
	Unlink(ctx context.Context, id string) error
	// Forget removes all that a machine has there. Finding nothing is no error.
	Forget(ctx context.Context, id string) error
}

// Link is the network of one running machine.
type Link interface {
	// Tap is the machine's device; nil if it was attached.
	Tap() *os.File
	// Trust is what the guest is given of secrets before it runs.
	Trust() *machine.Trust
	// Knock watches for packets to the guest until ctx ends. The channel is
	// closed with the first, which is held for a machine that stands still.
	Knock(ctx context.Context) (<-chan struct{}, error)
	// Close ends it; repeating it is no error.
	Close() error
}

// Runner is what machines are run with.
type Runner struct {
	Driver  vmm.Driver
	Pool    *pool.Pool
	Network Network
	Connect func(context.Context, net.Conn) (Guest, error)
	Journal Journal
	// RunDir holds one folder per machine, named after its id.
	RunDir string
	// Clock is the host's time.
	Clock func() time.Time
	Log   *slog.Logger
}

// Machine is a machine that runs.
type Machine struct {
	VM vmm.Machine
	// Guest is nil until somebody has connected.
	Guest Guest
	// link is its network, and unlinked is closed once that is; nil if it has
	// none.
	link     Link
	unlinked <-chan struct{}
}

// With returns the machine with another connection to its guest.
func (m *Machine) With(g Guest) *Machine { return &Machine{m.VM, g, m.link, m.unlinked} }

// Ended reports whether the machine's VMM is gone.
func (m *Machine) Ended() bool {
	select {
	case <-m.VM.Done():
		return true
	default:
		return false
	}
}

// Disconnect ends the connection to the guest, if there is one.
func (m *Machine) Disconnect() {
	if m.Guest != nil {
		m.Guest.Close()
	}
}

// Kill ends the machine and waits until it and its network are gone.
func (m *Machine) Kill(ctx context.Context) error {
	m.Disconnect()
	if err := m.VM.Kill(ctx); err != nil {
		return fmt.Errorf("end VMM: %w", err)
	}
	if m.unlinked == nil {
		return nil
	}
	select {
	case <-m.unlinked:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end network: %w", ctx.Err())
	}
}

// Size is what a machine is made of.
type Size struct{ CPUs, MemoryMiB int }

// Dir is the run directory of a machine.
func (r *Runner) Dir(id pool.MachineID) string { return filepath.Join(r.RunDir, string(id)) }

// Spec returns what to run for a machine that is in the pool, with its run
// directory made, and the path of the state that its files came with.
func (r *Runner) Spec(id pool.MachineID, size Size) (spec vmm.Spec, state string, err error) {
	f, err := r.Pool.Machine(id)
	if err != nil {
		return spec, "", err
	}
	spec = vmm.Spec{
		ID: string(id), CPUs: size.CPUs, MemoryMiB: size.MemoryMiB,
		Memory: f.Memory, Disk: f.Disk, Kernel: f.Kernel, Initrd: f.Initrd, RunDir: r.Dir(id),
	}
	if err := os.MkdirAll(spec.RunDir, 0o700); err != nil {
		return spec, "", fmt.Errorf("make run directory: %w", err)
	}
	return spec, f.State, nil
}

// Restore starts a machine from the state that its files came with, and
// returns when its guest has confirmed that clock, randomness and identity
// are right. A nil identity leaves the one that the machine has. On error
// nothing runs.
func (r *Runner) Restore(ctx context.Context, id pool.MachineID, size Size, identity *machine.Identity) (*Machine, error) {
	spec, state, err := r.Spec(id, size)
	if err != nil {
		return nil, err
	}
	return r.bringUp(ctx, spec, bringUp{restoreTimeout, r.restoring(ctx, state), r.greeting(identity)})
}

// RestoreFrozen starts a machine like Restore, but leaves it as it is: nothing
// runs in it but its agent, and clock and randomness are those of the past.
func (r *Runner) RestoreFrozen(ctx context.Context, id pool.MachineID, size Size) (*Machine, error) {
	spec, state, err := r.Spec(id, size)
	if err != nil {
		return nil, err
	}
	return r.bringUp(ctx, spec, bringUp{restoreTimeout, r.restoring(ctx, state), func(ctx context.Context, vm vmm.Machine, _ Link) (Guest, error) {
		return r.connect(ctx, vm)
	}})
}

// restoring returns what starts a machine from a saved state.
func (r *Runner) restoring(ctx context.Context, state string) func(vmm.Spec) (vmm.Machine, error) {
	return func(spec vmm.Spec) (vmm.Machine, error) {
		vm, err := r.Driver.Restore(ctx, spec, state)
		if err != nil {
			return nil, fmt.Errorf("load machine: %w", err)
		}
		// What it had given back when it was saved it is to have again.
		if err := errors.Join(vm.Balloon(ctx, spec.MemoryMiB), vm.Continue(ctx)); err != nil {
			return nil, errors.Join(fmt.Errorf("continue machine: %w", err), vm.Kill(context.WithoutCancel(ctx)))
		}
		return vm, nil
	}
}

// Boot starts a machine from power-on and returns when its agent has
// confirmed the same as after a restore. On error nothing runs.
func (r *Runner) Boot(ctx context.Context, id pool.MachineID, size Size, identity *machine.Identity) (*Machine, error) {
	spec, _, err := r.Spec(id, size)
	if err != nil {
		return nil, err
	}
	boot := func(spec vmm.Spec) (vmm.Machine, error) { return r.Driver.Boot(ctx, spec) }
	return r.bringUp(ctx, spec, bringUp{BootTimeout, boot, r.greeting(identity)})
}

// greeting returns what connects to the agent of a machine that has just been
// started, and has it make the machine right.
func (r *Runner) greeting(identity *machine.Identity) func(context.Context, vmm.Machine, Link) (Guest, error) {
	return func(ctx context.Context, vm vmm.Machine, l Link) (Guest, error) {
		return r.greet(ctx, vm, identity, l.Trust())
	}
}

// bringUp is a way to come to a running machine.
type bringUp struct {
	limit time.Duration
	start func(vmm.Spec) (vmm.Machine, error)
	greet func(context.Context, vmm.Machine, Link) (Guest, error)
}

func (r *Runner) bringUp(ctx context.Context, spec vmm.Spec, b bringUp) (m *Machine, err error) {
	var undo unwind.Stack
	defer undo.OnError(ctx, &err)
	link, err := r.Network.Open(ctx, spec.ID)
	if err != nil {
		return nil, fmt.Errorf("make network: %w", err)
	}
	undo.Add("close network", func(context.Context) error { return link.Close() })
	spec.Tap = link.Tap()
	vm, err := b.start(spec)
	if err != nil {
		return nil, err
	}
	undo.Add("kill VMM", vm.Kill)
	ctx, cancel := context.WithTimeoutCause(ctx, b.limit, fmt.Errorf("no answer within %s", b.limit))
	defer cancel()
	g, err := b.greet(ctx, vm, link)
	if err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	return &Machine{vm, g, link, r.closeAfter(vm, link)}, nil
}

// closeAfter will end a machine's network after the machine, however that
// ends, and closes unlinked then.
func (r *Runner) closeAfter(vm vmm.Machine, link Link) (unlinked <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-vm.Done()
		if err := link.Close(); err != nil {
			r.Log.Warn("network is not closed", "err", err)
		}
	}()
	return done
}

// Attach takes over a machine that an earlier daemon left running, with its
// network. It is os.ErrProcessDone if it no longer runs.
func (r *Runner) Attach(ctx context.Context, id pool.MachineID, size Size) (*Machine, error) {
	spec, _, err := r.Spec(id, size)
	if err != nil {
		return nil, err
	}
	vm, err := r.Driver.Attach(ctx, spec)
	if err != nil {
		return nil, err
	}
	link, err := r.Network.Attach(ctx, spec.ID)
	if err != nil { // it runs on without
		r.Log.WarnContext(ctx, "machine has no network", "sandbox", spec.ID, "err", err)
		return &Machine{VM: vm}, nil
	}
	return &Machine{VM: vm, link: link, unlinked: r.closeAfter(vm, link)}, nil
}

// Greet connects to the agent of a machine that runs already, and has it make
// the machine right. It gives up with ctx only, see Patiently.
func (r *Runner) Greet(ctx context.Context, vm vmm.Machine) (Guest, error) {
	g, err := r.greet(ctx, vm, nil, nil)
	if errors.Is(context.Cause(ctx), ErrSilent) && err != nil {
		return nil, ErrSilent
	}
	return g, err
}

func (r *Runner) connect(ctx context.Context, vm vmm.Machine) (Guest, error) {
	conn, err := vm.Guest(ctx)
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	g, err := r.Connect(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("connect to agent: %w", exitedOr(vm, err))
	}
	return g, nil
}

func (r *Runner) greet(ctx context.Context, vm vmm.Machine, identity *machine.Identity, trust *machine.Trust) (Guest, error) {
	g, err := r.connect(ctx, vm)
	if err != nil {
		return nil, err
	}
	if err := g.Resume(ctx, identity, trust); err != nil {
		g.Close()
		return nil, fmt.Errorf("make machine right: %w", exitedOr(vm, err))
	}
	return g, nil
}

// exitedOr adds to err how vm ended, if it did: that explains it.
func exitedOr(vm vmm.Machine, err error) error {
	select {
	case <-vm.Done():
		return fmt.Errorf("%s: %w", vm.Exit().Reason, err)
	default:
		return err
	}
}

// Found lists every machine of which there are files, a run directory or a
// claim.
func (r *Runner) Found(ctx context.Context) ([]pool.MachineID, error) {
	machines, err := r.Pool.Machines()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(r.RunDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read run directories: %w", err)
	}
	for _, e := range entries {
		machines = append(machines, pool.MachineID(e.Name()))
	}
	owners, err := r.Journal.Owners(ctx)
	if err != nil {
		return nil, err
	}
	for _, owner := range owners {
		machines = append(machines, pool.MachineID(owner))
	}
	slices.Sort(machines)
	return slices.Compact(machines), nil
}

// Claim records that the machine may have a VMM from now on.
func (r *Runner) Claim(ctx context.Context, id pool.MachineID) error {
	return r.Journal.Begin(ctx, string(id), r.Dir(id))
}

// Reap ends what an earlier daemon left running of a machine: its VMM and its
// network. Finding nothing is no error.
func (r *Runner) Reap(ctx context.Context, id pool.MachineID) error {
	if err := r.Driver.Reap(ctx, r.Dir(id)); err != nil {
		return fmt.Errorf("end VMM: %w", err)
	}
	if err := r.Network.Unlink(ctx, string(id)); err != nil {
		return fmt.Errorf("end network: %w", err)
	}
	return nil
}

// Discard releases everything that a machine has on the host: VMM, run
// directory, files, and then the claim. It is idempotent.
func (r *Runner) Discard(ctx context.Context, id pool.MachineID) error {
	if err := r.Driver.Reap(ctx, r.Dir(id)); err != nil {
		return fmt.Errorf("end VMM: %w", err)
	}
	if err := r.Network.Forget(ctx, string(id)); err != nil {
		return fmt.Errorf("remove network: %w", err)
	}
	if err := os.RemoveAll(r.Dir(id)); err != nil {
		return fmt.Errorf("remove run directory: %w", err)
	}
	if err := r.Pool.RemoveMachine(ctx, id); err != nil {
		return err
	}
	return r.Journal.End(ctx, string(id))
}
