package qemu_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/image"
	"bulkhead/internal/vmm"
	"bulkhead/internal/vmm/qemu"
)

// patience turns a hang into a failure; nothing is measured by it.
const patience = 2 * time.Minute

// The driver on real machines, with a guest of a few lines. One machine
// serves most cases, because a boot takes seconds.
func TestDriver(t *testing.T) {
	d := qemu.New(qemu.Config{Accel: vmm.TCG, Log: slog.New(slog.DiscardHandler)})
	spec := newSpec(t, "first")
	m := boot(t, d, spec)
	g := talk(t, m)

	t.Run("the guest sees five devices", func(t *testing.T) {
		// Virtio device ids: network, block, console, entropy, balloon.
		got := strings.Fields(g.ask(t, "devices"))
		want := map[string]bool{"0x0001": true, "0x0002": true, "0x0003": true, "0x0004": true, "0x0005": true}
		for _, id := range got {
			if !want[id] {
				t.Errorf("device %s", id)
			}
			delete(want, id)
		}
		if len(want) > 0 {
			t.Errorf("missing %v", want)
		}
	})
	t.Run("a stopped machine goes on", func(t *testing.T) {
		do(t, m.Stop, m.Stop, m.Continue)
		if got := g.ask(t, "echo still here"); got != "still here" {
			t.Errorf("says %q", got)
		}
	})
	t.Run("its disk is locked", func(t *testing.T) { wantLocked(t, d, spec) })

	g.ask(t, "write before")
	at := g.ask(t, "count")
	saved := save(t, m, spec)

	t.Run("it goes on after a snapshot", func(t *testing.T) {
		if got := g.ask(t, "read"); got != "before" {
			t.Errorf("disk holds %q", got)
		}
		g.ask(t, "write after")
		g.ask(t, "count")
		wantLocked(t, d, spec)
	})
	t.Run("restored again and again it is that of the moment", func(t *testing.T) {
		for range 4 {
			r := restore(t, d, saved)
			rg := talk(t, r)
			if got := rg.ask(t, "read"); got != "before" {
				t.Errorf("disk holds %q", got)
			}
			if got := rg.ask(t, "count"); got != next(at) {
				t.Errorf("counts %s after %s", got, at)
			}
			do(t, r.Kill, r.Kill)
			if got := r.Exit().Cause; got != vmm.Killed {
				t.Errorf("cause %s", got)
			}
		}
	})
	t.Run("what does not fit is refused", func(t *testing.T) { wantRefused(t, d, saved) })
	t.Run("another driver attaches", func(t *testing.T) {
		g.close()
		qemu.Abandon(m)
		other := qemu.New(qemu.Config{Accel: vmm.TCG, Log: slog.New(slog.DiscardHandler)})
		a, err := other.Attach(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if got := talk(t, a).ask(t, "echo attached"); got != "attached" {
			t.Errorf("says %q", got)
		}
		do(t, a.Stop, a.Continue)
	})
	t.Run("reaped it is gone", func(t *testing.T) {
		reap := func(ctx context.Context) error { return d.Reap(ctx, spec.RunDir) }
		do(t, reap, reap)
		<-m.Done()
		if _, err := d.Attach(t.Context(), spec); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("attach: %v", err)
		}
		if got := m.Exit(); got.Cause != vmm.Died || !strings.Contains(got.Reason, "killed") {
			t.Errorf("exit %+v", got)
		}
	})
	t.Run("its end is told", func(t *testing.T) { wantEnds(t, d, saved) })
}

// wantEnds restores a machine for each way in which one can end.
func wantEnds(t *testing.T, d *qemu.Driver, saved savedMachine) {
	for _, tt := range []struct {
		how  string
		want vmm.Cause
		text string
	}{
		{"poweroff", vmm.PoweredOff, "powered off"},
		{"reboot", vmm.Rebooted, "rebooted"},
		{"panic", vmm.Died, "panicked"},
	} {
		t.Run(tt.how, func(t *testing.T) {
			m := restore(t, d, saved)
			fmt.Fprintln(talk(t, m).conn, tt.how)
			<-m.Done()
			if got := m.Exit(); got.Cause != tt.want || !strings.Contains(got.Reason, tt.text) {
				t.Errorf("exit %+v", got)
			}
		})
	}
	t.Run("a console flood stays bounded", func(t *testing.T) {
		spec := saved.copy(t)
		m, err := d.Restore(t.Context(), spec, saved.state)
		if err != nil {
			t.Fatal(err)
		}
		do(t, m.Continue)
		if got := talk(t, m).ask(t, "flood"); got != "ok" {
			t.Errorf("says %q", got)
		}
		do(t, m.Kill)
		for _, f := range []string{qemu.ConsoleFile, qemu.ConsoleOldFile} {
			info, err := os.Stat(filepath.Join(spec.RunDir, f))
			if err != nil || info.Size() > 1<<20+16<<10 {
				t.Errorf("%s: %v, %v", f, info, err)
			}
		}
	})
}

// wantRefused loads states that do not fit and checks that nothing stays.
func wantRefused(t *testing.T, d *qemu.Driver, saved savedMachine) {
	good, err := os.ReadFile(saved.state)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"junk": []byte("junk"), "truncated": good[:len(good)/2], "empty": nil,
	} {
		spec := saved.copy(t)
		state := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(state, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if _, err := d.Restore(ctx, spec, state); !errors.Is(err, vmm.ErrIncompatible) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := d.Attach(ctx, spec); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("%s: something still runs: %v", name, err)
		}
	}
}

// wantLocked starts a second machine on the disk of one that runs.
func wantLocked(t *testing.T, d *qemu.Driver, spec vmm.Spec) {
	t.Helper()
	second := spec
	second.RunDir = runDir(t)
	second.Memory = filepath.Join(second.RunDir, "memory")
	sparse(t, second.Memory, int64(spec.MemoryMiB)<<20)
	m, err := d.Boot(t.Context(), second)
	if err == nil {
		m.Kill(t.Context())
		t.Fatal("a second VMM opened the disk")
	}
	if !strings.Contains(err.Error(), "lock") && !strings.Contains(err.Error(), "another process") {
		t.Errorf("refused with %v", err)
	}
}

func TestKilledFromOutsideIsTold(t *testing.T) {
	d := qemu.New(qemu.Config{Accel: vmm.TCG, Log: slog.New(slog.DiscardHandler)})
	m := boot(t, d, newSpec(t, "victim"))
	if err := syscall.Kill(m.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-m.Done()
	if got := m.Exit(); got.Cause != vmm.Died || !strings.Contains(got.Reason, "killed") {
		t.Errorf("exit %+v", got)
	}
	if err := m.Stop(t.Context()); err == nil {
		t.Error("a machine that is gone was stopped")
	}
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	d := qemu.New(qemu.Config{Accel: vmm.TCG, Log: slog.New(slog.DiscardHandler)})
	spec := newSpec(t, "cancelled")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Boot(ctx, spec); err == nil {
		t.Error("booted")
	}
	if _, err := d.Attach(t.Context(), spec); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("something still runs: %v", err)
	}
}

// guest is a line-by-line conversation with the tiny guest.
type guest struct {
	conn  net.Conn
	lines *bufio.Reader
}

func talk(t *testing.T, m vmm.Machine) guest {
	t.Helper()
	conn, err := m.Guest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	g := guest{conn, bufio.NewReader(conn)}
	t.Cleanup(g.close)
	return g
}

func (g guest) close() { g.conn.Close() }

func (g guest) ask(t *testing.T, line string) string {
	t.Helper()
	if _, err := fmt.Fprintln(g.conn, line); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	got, err := g.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return strings.TrimSpace(got)
}

func next(n string) string {
	var i int
	fmt.Sscan(n, &i)
	return fmt.Sprint(i + 1)
}

func do(t *testing.T, steps ...func(context.Context) error) {
	t.Helper()
	for i, step := range steps {
		if err := step(t.Context()); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
}

func boot(t *testing.T, d *qemu.Driver, spec vmm.Spec) vmm.Machine {
	t.Helper()
	m, err := d.Boot(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Kill(context.Background())
		if t.Failed() {
			t.Logf("console:\n%s", qemu.Tail(filepath.Join(spec.RunDir, qemu.ConsoleFile), 1000))
		}
	})
	return m
}

// savedMachine is a moment of a machine: files and state.
type savedMachine struct {
	spec  vmm.Spec
	state string
}

func save(t *testing.T, m vmm.Machine, spec vmm.Spec) savedMachine {
	t.Helper()
	dir := t.TempDir()
	s := savedMachine{spec: spec, state: filepath.Join(dir, "state")}
	s.spec.Memory, s.spec.Disk = filepath.Join(dir, "memory"), filepath.Join(dir, "disk")
	f, err := os.Create(s.state)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	do(t, m.Stop, func(ctx context.Context) error { return m.SaveState(ctx, f) })
	copySparse(t, spec.Memory, s.spec.Memory)
	copySparse(t, spec.Disk, s.spec.Disk)
	do(t, m.Continue)
	return s
}

// copy returns a spec with files and a run directory of its own.
func (s savedMachine) copy(t *testing.T) vmm.Spec {
	t.Helper()
	spec := s.spec
	spec.RunDir = runDir(t)
	spec.Memory, spec.Disk = filepath.Join(spec.RunDir, "memory"), filepath.Join(spec.RunDir, "disk")
	copySparse(t, s.spec.Memory, spec.Memory)
	copySparse(t, s.spec.Disk, spec.Disk)
	return spec
}

func restore(t *testing.T, d *qemu.Driver, s savedMachine) vmm.Machine {
	t.Helper()
	m, err := d.Restore(t.Context(), s.copy(t), s.state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Kill(context.Background()) })
	do(t, m.Continue)
	return m
}

// newSpec makes a machine of the tiny guest.
func newSpec(t *testing.T, id string) vmm.Spec {
	t.Helper()
	img := tinyImage(t)
	dir := runDir(t)
	spec := vmm.Spec{
		ID: id, CPUs: 1, MemoryMiB: 128, Memory: filepath.Join(dir, "memory"), Disk: filepath.Join(dir, "disk"),
		Kernel: img.Kernel, Initrd: img.Initrd, RunDir: dir,
	}
	sparse(t, spec.Memory, int64(spec.MemoryMiB)<<20)
	sparse(t, spec.Disk, 64<<20)
	return spec
}

// tinyImage is Debian's kernel with the tiny guest as /init.
func tinyImage(t *testing.T) image.Image {
	t.Helper()
	agent := filepath.Join(t.TempDir(), "guest")
	build := exec.Command("go", "build", "-trimpath", "-o", agent, "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build guest: %v\n%s", err, out)
	}
	cache := os.Getenv("BULKHEAD_TEST_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "bulkhead-test")
	}
	img, err := (&image.Builder{Cache: cache}).Build(t.Context(), image.Recipe{Agent: agent}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// runDir is a short folder: a unix socket's path has 108 bytes.
func runDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func sparse(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

func copySparse(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %s", from, out)
	}
}
