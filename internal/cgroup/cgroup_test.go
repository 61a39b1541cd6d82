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
	"testing"
	"time"

	"bulkhead/internal/cgroup"
	"bulkhead/test/leak"

	"github.com/google/go-cmp/cmp"
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

// fake is a host whose hierarchies are plain folders: mounts maps a folder's
// name to the type and options of the mount there.
func fake(t *testing.T, mounts map[string]string, controllers string) (*cgroup.Host, string) {
	t.Helper()
	dir := t.TempDir()
	var table strings.Builder
	for name, kind := range mounts {
		point := filepath.Join(dir, name)
		if err := os.MkdirAll(point, 0o755); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&table, "31 23 0:28 / %s rw shared:9 - %s\n", point, kind)
	}
	if _, ok := mounts["unified"]; ok {
		write(t, filepath.Join(dir, "unified", "cgroup.controllers"), controllers)
	}
	table.WriteString("odd line\n32 23 8:1 / / rw - ext4 /dev/sda1 rw\n")
	h, err := cgroup.Parse(table.String())
	if err != nil {
		t.Fatal(err)
	}
	return h, dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHosts(t *testing.T) {
	v1 := map[string]string{
		"cpu": "cgroup cgroup rw,cpu,cpuacct", "memory": "cgroup cgroup rw,memory",
		"pids": "cgroup cgroup rw,pids", "blkio": "cgroup cgroup rw,blkio",
	}
	hybrid := map[string]string{"unified": "cgroup2 cgroup2 rw"}
	for name, kind := range v1 {
		hybrid[name] = kind
	}
	for _, tt := range []struct {
		name        string
		mounts      map[string]string
		controllers string
		missing     []string
		io          bool
	}{
		{"version 1", v1, "", nil, true},
		{"version 2", map[string]string{"unified": "cgroup2 cgroup2 rw"}, "cpuset cpu io memory pids\n", nil, true},
		{"both", hybrid, "\n", nil, true},
		{"version 2 without memory", map[string]string{"unified": "cgroup2 cgroup2 rw"}, "cpu pids", []string{"memory"}, false},
		{"none", map[string]string{}, "", []string{"memory", "cpu", "pids"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, _ := fake(t, tt.mounts, tt.controllers)
			if diff := cmp.Diff(tt.missing, h.Missing()); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
			if h.Has("io") != tt.io {
				t.Errorf("has io: %t", !tt.io)
			}
		})
	}
}

// The files of version 2 cannot be had here with controllers, so what is
// written is compared with what cgroup-v2.rst says.
func TestLimitsOfVersion2(t *testing.T) {
	h, dir := fake(t, map[string]string{"unified": "cgroup2 cgroup2 rw"}, "cpu io memory pids")
	top := filepath.Join(dir, "unified")
	group := filepath.Join(top, "bulkhead", "a")
	if err := os.MkdirAll(group, 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"memory.max": "max", "memory.swap.max": "max", "memory.oom.group": "0", "pids.max": "max",
		"cpu.weight": "100", "cpu.max": "max 100000", "io.weight": "default 100",
	}
	for name, content := range files {
		write(t, filepath.Join(group, name), content)
	}
	want := cgroup.Limits{MemoryBytes: 64 << 20, CPUWeight: 50, CPUQuota: 1.5, PIDs: 20, IOWeight: 200}
	if err := cgroup.SetLimits(h.Open("a"), want); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"memory.max": "67108864", "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "20",
		"cpu.weight": "50", "cpu.max": "150000 100000", "io.weight": "200",
	} {
		if b, err := os.ReadFile(filepath.Join(group, name)); err != nil || string(b) != content {
			t.Errorf("%s: %q, %v, want %q", name, b, err, content)
		}
	}
	if got, err := h.Open("a").Limits(); err != nil || got != want {
		t.Errorf("read back %+v, %v, want %+v", got, err, want)
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
	h := real(t)
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
	if _, err := h.Create("../up", want); err == nil {
		t.Error("a path is no name, and was taken")
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

func TestOutOfMemory(t *testing.T) {
	h := real(t)
	g, _ := create(t, h, cgroup.Limits{MemoryBytes: 32 << 20})
	if n, err := g.OOMKills(); err != nil || n != 0 {
		t.Errorf("before: %d, %v", n, err)
	}
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
	if ws, ok := hog.ProcessState.Sys().(interface{ Signaled() bool }); !ok || !ws.Signaled() {
		t.Errorf("ended with %s", hog.ProcessState)
	}
	if n, err := g.OOMKills(); err != nil || n == 0 {
		t.Errorf("afterwards: %d, %v", n, err)
	}
}

// A group that cannot be limited as asked leaves nothing.
func TestFailedCreateLeavesNothing(t *testing.T) {
	h := real(t)
	name := fmt.Sprintf("test-fail-%d", os.Getpid())
	if _, err := h.Create(name, cgroup.Limits{PIDs: 1 << 40}); err == nil {
		t.Fatal("created")
	}
	if names, err := h.List(); err != nil || slices.Contains(names, name) {
		t.Errorf("left %v, %v", names, err)
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
