package cgroup_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/cgroup"
	"bulkhead/test/leak"
)

// patience turns a hang into a failure; nothing is measured by it.
const patience = time.Minute

const roleKey = "CGROUP_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleKey) {
	case "hog": // once it is told
		os.Stdin.Read(make([]byte, 1))
		for kept := [][]byte{}; ; {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			kept = append(kept, b)
		}
	case "":
		os.Exit(m.Run())
	}
}

func real(t *testing.T) *cgroup.Host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("control groups need root")
	}
	leak.Check(t)
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	if missing := h.Missing(); len(missing) > 0 {
		t.Skipf("this host has no %v", missing)
	}
	return h
}

// onlyVersion1 is this host as if it had no version 2: no cgroup.kill, and CPU
// time is counted by cpuacct.
func onlyVersion1(t *testing.T) *cgroup.Host {
	t.Helper()
	real(t)
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	mounts := slices.DeleteFunc(strings.Split(string(b), "\n"), func(line string) bool {
		return strings.Contains(line, " - cgroup2 ")
	})
	h, err := cgroup.Parse(strings.Join(mounts, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if missing := h.Missing(); len(missing) > 0 {
		t.Skipf("this host has no %v in version 1", missing)
	}
	return h
}

// hosts are what of this host is tested for real.
var hosts = map[string]func(*testing.T) *cgroup.Host{"as it is": real, "version 1 only": onlyVersion1}

func create(t *testing.T, h *cgroup.Host, l cgroup.Limits) (*cgroup.Group, string) {
	t.Helper()
	name := fmt.Sprintf("test-%d", os.Getpid())
	g, err := h.Create(name, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(g.Kill(ctx), g.Remove(ctx), g.Kill(ctx), g.Remove(ctx)); err != nil {
			t.Error(err)
		}
	})
	return g, name
}

func TestGroup(t *testing.T) {
	for name, host := range hosts {
		t.Run(name, func(t *testing.T) { testGroup(t, host(t)) })
	}
}

// All groups together weigh as much as eight services.
func TestParentWeighs(t *testing.T) {
	for name, host := range hosts {
		t.Run(name, func(t *testing.T) {
			h := host(t)
			create(t, h, cgroup.Limits{})
			file := cgroup.WeightFile(h)
			want := map[string]string{"cpu.shares": "8192\n", "cpu.weight": "800\n"}[filepath.Base(file)]
			if got, err := os.ReadFile(file); err != nil || string(got) != want {
				t.Errorf("%s is %q, %v, want %q", file, got, err, want)
			}
		})
	}
}

func testGroup(t *testing.T, h *cgroup.Host) {
	want := cgroup.Limits{MemoryBytes: 64 << 20, CPUWeight: 200, CPUQuota: 0.5, PIDs: 10}
	g, name := create(t, h, want)
	got, err := g.Limits()
	got.IOWeight = 0 // the kernel has one where it can
	if err != nil || got != want {
		t.Errorf("limits %+v, %v, want %+v", got, err, want)
	}
	if _, err := h.Create(name, want); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created twice: %v", err)
	}
	if names, err := h.List(); err != nil || !slices.Contains(names, name) {
		t.Errorf("listed %v, %v", names, err)
	}
	sh := exec.Command("sh", "-c", "read x; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; wait")
	in, err := sh.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sh.Start(); err != nil {
		t.Fatal(err)
	}
	defer sh.Wait() // it is killed
	if err := g.Add(sh.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if pids, err := g.PIDs(); err != nil || !slices.Equal(pids, []int{sh.Process.Pid}) {
		t.Errorf("processes %v, %v", pids, err)
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has as many as it may", func() bool {
		u, err := g.Usage()
		return err == nil && u.PIDs == want.PIDs
	})
	if u, err := g.Usage(); err != nil || u.CPU == 0 || u.MemoryBytes == 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Remove(ctx); err == nil {
		t.Error("a group in use was removed")
	}
	if err := g.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pids, err := g.PIDs(); err != nil || len(pids) > 0 {
		t.Errorf("after the kill: %v, %v", pids, err)
	}
}

// Whoever is killed one by one can fork meanwhile.
func TestKillOutrunsForks(t *testing.T) {
	for name, host := range hosts {
		t.Run(name, func(t *testing.T) {
			g, _ := create(t, host(t), cgroup.Limits{PIDs: 400})
			// A shell that cannot fork ends, and the dead count until they are
			// reaped: there may be none that hops by the time they are looked for.
			sh := exec.Command("sh", "-c", "read x; sleep 1000 & hop() { hop & }; for i in 1 2 3 4 5 6; do hop; done")
			in, err := sh.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := sh.Start(); err != nil {
				t.Fatal(err)
			}
			if err := g.Add(sh.Process.Pid); err != nil {
				t.Fatal(errors.Join(err, sh.Process.Kill(), sh.Wait()))
			}
			if _, err := in.Write([]byte("\n")); err != nil {
				t.Fatal(err)
			}
			if err := sh.Wait(); err != nil { // its children hop on
				t.Fatal(err)
			}
			if pids, err := g.PIDs(); err != nil || len(pids) == 0 {
				t.Fatalf("before the kill: %v, %v", pids, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := g.Kill(ctx); err != nil {
				t.Fatal(err)
			}
			if pids, err := g.PIDs(); err != nil || len(pids) > 0 {
				t.Errorf("after the kill: %v, %v", pids, err)
			}
			for range 2 {
				if err := g.Remove(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestOutOfMemory(t *testing.T) {
	h := real(t)
	g, _ := create(t, h, cgroup.Limits{MemoryBytes: 32 << 20})
	if n, err := g.OOMKills(); err != nil || n != 0 {
		t.Errorf("before: %d, %v", n, err)
	}
	neighbour := exec.Command("sleep", "1000") // in no group of ours, next to it
	if err := neighbour.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { neighbour.Process.Kill(); neighbour.Wait() }()
	hog := exec.Command(os.Args[0])
	hog.Env = append(os.Environ(), roleKey+"=hog")
	in, err := hog.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := hog.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(hog.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	hog.Wait()
	if err := neighbour.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the neighbour: %v", err)
	}
	if ws, ok := hog.ProcessState.Sys().(interface{ Signaled() bool }); !ok || !ws.Signaled() {
		t.Errorf("ended with %s", hog.ProcessState)
	}
	if n, err := g.OOMKills(); err != nil || n == 0 {
		t.Errorf("afterwards: %d, %v", n, err)
	}
}

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
