// Package vmm is the contract between a sandbox and the process that runs its
// microVM. Each kind of VMM is one folder below this one.
//
// A machine's life:
//
//	Boot ──► running ◄──Continue/Stop──► stopped ──SaveState──► stopped
//	Restore ──► stopped ──Continue──► running
//	Kill, or the guest powers off, or the VMM dies ──► Done is closed
//
// RAM is a file (Spec.Memory) that the VMM maps shared, so neither SaveState
// nor Restore copies it: whoever stops a machine may take a reflink of its
// memory and disk together with the state, and the three are one moment.
//
// A VMM outlives the process that started it. Attach takes it over again.
//
// vmm knows no sandbox, pool or guest: it is given paths and numbers.
package vmm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// Accel is how guest code is executed.
type Accel string

// The accelerators. TCG is a translator, not a hardware boundary.
const (
	KVM Accel = "kvm"
	TCG Accel = "tcg"
)

// Spec says what machine to run. Every path is absolute and on the host.
type Spec struct {
	// ID names the machine in process titles and errors.
	ID string
	// CPUs is the number of virtual CPUs, 1 to 64.
	CPUs int
	// MemoryMiB is the size of RAM and of the file Memory, a multiple of 2.
	MemoryMiB int

	// Memory is the RAM file; Disk is the raw root disk. Both are opened
	// read-write, Disk under an exclusive lock.
	Memory, Disk string
	// Kernel and Initrd are what Boot starts, and what a guest that reboots
	// comes back to.
	Kernel, Initrd string
	// Tap is the open device of the machine's network, nil for a machine whose
	// network card is connected to nothing. Starting does not close it.
	Tap *os.File
	// RunDir is an existing folder for the VMM's sockets, console and log.
	// Its path is at most 80 bytes long: a unix socket's path has 108.
	RunDir string
}

// Version identifies what a saved state can be loaded by. A state loads only
// where every field is equal.
type Version struct {
	// Driver is the driver's name, "qemu".
	Driver string `json:"driver"`
	// VMM is the VMM's own version, "7.2.22 (Debian …)".
	VMM string `json:"vmm"`
	// Machine names the machine type and its options.
	Machine string `json:"machine"`
	// Accel and CPU say what executes guest code: "tcg", "max".
	Accel Accel  `json:"accel"`
	CPU   string `json:"cpu"`
}

// Exit says how a machine ended.
type Exit struct {
	// Reason is what happened: "guest powered off", "guest rebooted",
	// "guest panicked", "killed", "VMM died: signal: killed".
	Reason string
	// Cause is for programs.
	Cause Cause
}

// Cause classifies an Exit.
type Cause string

// The causes.
const (
	PoweredOff Cause = "powered_off" // the guest asked for it
	Rebooted   Cause = "rebooted"    // the guest asked to be started again
	Killed     Cause = "killed"      // Kill was called
	Died       Cause = "died"        // anything else
)

// ErrIncompatible is what Restore returns for a state that this VMM refuses
// to load.
var ErrIncompatible = errors.New("saved state does not fit this VMM")

// ErrSilent is what Boot returns when the machine printed nothing on its
// console within the boot watchdog's time, however often it was tried.
var ErrSilent = errors.New("guest kernel printed nothing")

// Driver starts machines of one kind. It is safe for concurrent use.
type Driver interface {
	// Version says what states this driver can load. It runs the VMM's
	// binary once and remembers the answer.
	Version(ctx context.Context) (Version, error)

	// Boot starts a machine from power-on and returns when its kernel has
	// printed its first console line. A machine that stays silent is killed
	// and tried again; ErrSilent after the last try. On error nothing is left
	// running.
	Boot(ctx context.Context, spec Spec) (Machine, error)

	// Restore starts a VMM on spec's files and loads state, which SaveState
	// made from identical memory and disk and as many CPUs; a driver need not
	// notice where they differ. The machine is stopped when Restore returns.
	// ErrIncompatible if the VMM refuses the state. On error nothing is left
	// running.
	Restore(ctx context.Context, spec Spec, state string) (Machine, error)

	// Attach takes over a machine that an earlier process of ours started in
	// spec.RunDir. os.ErrProcessDone if it no longer runs; the VMM is found by
	// what the driver left in RunDir and recognised by its start time, never
	// by a bare process number.
	Attach(ctx context.Context, spec Spec) (Machine, error)

	// Reap kills whatever Boot or Restore left running in runDir when our
	// process died in the middle of it, and waits until it is gone. Finding
	// nothing is no error.
	Reap(ctx context.Context, runDir string) error
}

// Machine is one running VMM. Its methods are safe for concurrent use; those
// that change it wait for each other.
type Machine interface {
	// PID is the VMM's process number. It is for display: the process may end
	// at any time and its number be used again.
	PID() int

	// Guest returns the host's end of the guest channel: raw bytes, ordered,
	// not framed. The caller owns it and closes it. At most one exists at a
	// time; while none does, what the guest sends is held back.
	Guest(ctx context.Context) (net.Conn, error)

	// Stop halts the virtual CPUs and flushes the disk's queue into its file
	// (not to stable storage). Stopping a stopped machine is no error.
	Stop(ctx context.Context) error
	// Continue starts the virtual CPUs.
	Continue(ctx context.Context) error
	// Balloon asks the guest to give back all but mib MiB of its memory, and to
	// have that again if mib is more than before. It does not wait for the guest,
	// who gives what it can, and takes it back when it would have to end programs.
	// What it has given when the machine is saved it has given after a restore.
	Balloon(ctx context.Context, mib int) error
	// SaveState writes the device state of a stopped machine to a new file.
	// It does not sync the file.
	SaveState(ctx context.Context, file *os.File) error

	// Kill ends the VMM at once and waits until it is gone. Killing a machine
	// that has ended is no error.
	Kill(ctx context.Context) error
	// Done is closed when the VMM is gone and Exit may be read.
	Done() <-chan struct{}
	// Exit says how the machine ended. Only valid after Done.
	Exit() Exit
}

// Check returns an error that names the first field of spec that is out of
// range, nil if there is none.
func (s Spec) Check() error {
	switch {
	case s.ID == "":
		return errors.New("machine without an id")
	case s.CPUs < 1 || s.CPUs > 64:
		return fmt.Errorf("cpus %d: not within 1 to 64", s.CPUs)
	case s.MemoryMiB < 64 || s.MemoryMiB%2 != 0:
		return fmt.Errorf("memory %d MiB: not an even number from 64 up", s.MemoryMiB)
	case len(s.RunDir) > 80:
		return fmt.Errorf("run directory %s: path longer than 80 bytes", s.RunDir)
	}
	for _, path := range []string{s.Memory, s.Disk, s.Kernel, s.Initrd, s.RunDir} {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("path %q: not absolute", path)
		}
	}
	return nil
}
