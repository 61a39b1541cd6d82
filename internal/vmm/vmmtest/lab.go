package vmmtest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/image"
	"bulkhead/internal/vmm"
)

// patience turns a hang into a failure; nothing is measured by it.
const patience = 2 * time.Minute

// memoryMiB is enough for Debian's kernel and the guest.
const memoryMiB = 128

// lab is what the cases share.
type lab struct {
	dir       string
	driver    vmm.Driver
	newDriver func(*testing.T) vmm.Driver
	image     image.Image
	// saved is a machine that had counted to count, with "before" on its disk.
	saved moment
	count int
}

// machine is one that runs, or ran, on files of its own.
type machine struct {
	vmm.Machine
	spec vmm.Spec
	l    *lab
}

// own has a machine killed at the end of the test.
func (l *lab) own(t *testing.T, m vmm.Machine, spec vmm.Spec) *machine {
	t.Helper()
	owned := &machine{m, spec, l}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := m.Kill(ctx); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for name, b := range owned.runFiles(t) {
				t.Logf("%s:\n%s", name, b[max(0, len(b)-1500):])
			}
		}
	})
	return owned
}

func (l *lab) boot(t *testing.T, spec vmm.Spec) *machine {
	t.Helper()
	m, err := l.driver.Boot(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return l.own(t, m, spec)
}

// attach takes over a machine as a daemon does that has just been started.
func (l *lab) attach(t *testing.T, spec vmm.Spec) *machine {
	t.Helper()
	m, err := l.newDriver(t).Attach(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return l.own(t, m, spec)
}

// restore restores the saved machine and has it go on.
func (l *lab) restore(t *testing.T) *machine {
	t.Helper()
	return l.restoreFrom(t, l.saved)
}

func (l *lab) restoreFrom(t *testing.T, at moment) *machine {
	t.Helper()
	at = at.copy(t, l)
	m, err := l.driver.Restore(t.Context(), at.Spec, at.State)
	if err != nil {
		t.Fatal(err)
	}
	owned := l.own(t, m, at.Spec)
	do(t, m.Continue)
	return owned
}

// reap returns a step for do.
func (l *lab) reap(runDir string) func(context.Context) error {
	return func(ctx context.Context) error { return l.driver.Reap(ctx, runDir) }
}

// wait waits for a machine's end.
func (m *machine) wait(t *testing.T) vmm.Exit {
	t.Helper()
	select {
	case <-m.Done():
		return m.Exit()
	case <-time.After(patience):
		t.Fatal("it does not end")
		return vmm.Exit{}
	}
}

// runFiles reads what is in the run directory: the console and logs.
func (m *machine) runFiles(t *testing.T) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(m.spec.RunDir)
	if err != nil {
		t.Error(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if e.Type().IsRegular() {
			b, err := os.ReadFile(filepath.Join(m.spec.RunDir, e.Name()))
			if err != nil {
				t.Error(err)
			}
			files[e.Name()] = b
		}
	}
	return files
}

// kept reports whether text is in one of the run directory's files.
func (m *machine) kept(t *testing.T, text string) bool {
	t.Helper()
	for _, b := range m.runFiles(t) {
		if bytes.Contains(b, []byte(text)) {
			return true
		}
	}
	return false
}

// newSpec makes a machine that has never run.
func (l *lab) newSpec(t *testing.T) vmm.Spec {
	t.Helper()
	dir := l.folder(t)
	spec := in(dir, vmm.Spec{
		ID: filepath.Base(dir), CPUs: 1, MemoryMiB: memoryMiB,
		Kernel: l.image.Kernel, Initrd: l.image.Initrd,
	})
	sparse(t, spec.Memory, memoryMiB<<20)
	sparse(t, spec.Disk, 64<<20)
	return spec
}

// in returns spec with its files in one of the lab's folders.
func in(dir string, spec vmm.Spec) vmm.Spec {
	spec.Memory, spec.Disk = filepath.Join(dir, "memory"), filepath.Join(dir, "disk")
	spec.RunDir = filepath.Join(dir, "run")
	return spec
}

// folder makes a folder for one machine. It goes with the test, and so does a
// VMM that is still on its disk, which is an error.
func (l *lab) folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(l.dir, "m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, pid := range holders(t, filepath.Join(dir, "disk")) {
			t.Errorf("left behind: VMM %d", pid)
			syscall.Kill(pid, syscall.SIGKILL)
		}
		os.RemoveAll(dir)
	})
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// folder makes a folder with a short path: a run directory's has 80 bytes.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// wantGone checks that nothing runs in spec's folder or on its files.
func wantGone(t *testing.T, l *lab, spec vmm.Spec) {
	t.Helper()
	m, err := l.driver.Attach(t.Context(), spec)
	if err == nil {
		l.own(t, m, spec)
	}
	if !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("attach: got %v, want %v", err, os.ErrProcessDone)
	}
	for _, pid := range holders(t, spec.Disk) {
		t.Errorf("still runs: VMM %d", pid)
	}
}

// holders returns the processes that have a disk open, by whatever name: every
// VMM has, from its start to its end.
func holders(t *testing.T, disk string) (pids []int) {
	t.Helper()
	want, err := os.Stat(disk)
	if err != nil {
		return nil
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		fds, _ := filepath.Glob(dir + "/fd/*") // none if it has ended
		if slices.ContainsFunc(fds, func(fd string) bool {
			got, err := os.Stat(fd)
			return err == nil && os.SameFile(got, want)
		}) {
			pid, _ := strconv.Atoi(filepath.Base(dir)) // by the pattern it is one
			pids = append(pids, pid)
		}
	}
	return pids
}

// do takes steps of a machine's life one after the other.
func do(t *testing.T, steps ...func(context.Context) error) {
	t.Helper()
	for i, step := range steps {
		if err := step(t.Context()); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it never came that %s", what)
		}
	}
}
