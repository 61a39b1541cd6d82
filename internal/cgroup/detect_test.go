package cgroup_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/cgroup"

	"github.com/google/go-cmp/cmp"
)

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

// version1 has a folder for each controller.
func version1() map[string]string {
	return map[string]string{
		"cpu": "cgroup cgroup rw,cpu", "cpuacct": "cgroup cgroup rw,cpuacct",
		"memory": "cgroup cgroup rw,memory", "pids": "cgroup cgroup rw,pids",
	}
}

// A bind of somebody's group is no place for ours, nor is what the kernel's
// escapes look like.
func TestMountsThatAreOdd(t *testing.T) {
	const bind, whole = "1 2 0:3 /docker/x %s/bind rw - cgroup cgroup rw,memory\n", "4 2 0:3 / %s/w\\040h\\134 rw - cgroup cgroup rw,memory\n"
	for _, tt := range []struct{ name, table, in string }{
		{"the whole is taken, not the bind before it", bind + whole, `w h\`},
		{"the whole is taken, not the bind after it", whole + bind, `w h\`},
		{"the bind is taken where there is nothing else", bind, "bind"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{"bind", `w h\`} {
				if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			h, err := cgroup.Parse(strings.ReplaceAll(tt.table, "%s", dir))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.Create("a", cgroup.Limits{}); err != nil {
				t.Fatal(err)
			}
			if got, want := groups(t, dir), []string{filepath.Join(dir, tt.in, "bulkhead", "a")}; !slices.Equal(got, want) {
				t.Errorf("made %q, want %q", got, want)
			}
		})
	}
}

// groups lists the folders of groups in a fake host, and parents of none.
func groups(t *testing.T, dir string) (all []string) {
	t.Helper()
	parents, err := filepath.Glob(filepath.Join(dir, "*", "bulkhead"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parents {
		children, err := os.ReadDir(p)
		if err != nil {
			t.Fatal(err)
		}
		children = slices.DeleteFunc(children, func(c os.DirEntry) bool { return !c.IsDir() })
		if len(children) == 0 {
			all = append(all, p)
		}
		for _, c := range children {
			all = append(all, filepath.Join(p, c.Name()))
		}
	}
	return all
}

// The parent of our groups holds those of all sandboxes, and the folder above
// everything on the host.
func TestWhatIsNoName(t *testing.T) {
	h, dir := fake(t, version1(), "")
	for name := range version1() {
		for _, folder := range []string{name, filepath.Join(name, "bulkhead")} {
			if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
				t.Fatal(err)
			}
			// No process has such a number: this must not hurt where it fails.
			write(t, filepath.Join(dir, folder, "cgroup.procs"), "2147483647\n")
		}
	}
	for _, name := range []string{"", ".", "..", "../up", "a/b", "A", "a\n", strings.Repeat("a", 65)} {
		t.Run(fmt.Sprintf("%q is refused", name), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := h.Create(name, cgroup.Limits{}); err == nil {
				t.Error("created")
			}
			g := h.Open(name)
			if pids, err := g.PIDs(); err == nil {
				t.Errorf("has processes %v", pids)
			}
			for what, err := range map[string]error{"add": g.Add(2147483647), "kill": g.Kill(ctx), "remove": g.Remove(ctx)} {
				if err == nil || errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

func TestLimitsOutOfRangeAreRefused(t *testing.T) {
	h, dir := fake(t, version1(), "")
	for _, l := range []cgroup.Limits{
		{MemoryBytes: -1}, {PIDs: -1}, {CPUQuota: -0.5}, {CPUQuota: math.NaN()},
		{CPUWeight: -1}, {CPUWeight: 10001}, {IOWeight: -1}, {IOWeight: 10001},
	} {
		if _, err := h.Create("a", l); err == nil || !strings.Contains(err.Error(), "out of range") {
			t.Errorf("%+v: %v", l, err)
		}
	}
	if left := groups(t, dir); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// A group that is in one hierarchy only, after a crash, is not made whole by
// whoever is told that it exists, nor taken away.
func TestCreateWhatPartlyExists(t *testing.T) {
	h, dir := fake(t, version1(), "")
	half := filepath.Join(dir, "pids", "bulkhead", "a")
	all := filepath.Join(dir, "cpu", "bulkhead")
	err := errors.Join(os.MkdirAll(half, 0o755), os.MkdirAll(all, 0o755), os.WriteFile(filepath.Join(all, "cpu.shares"), nil, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Create("a", cgroup.Limits{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created: %v", err)
	}
	// The folder of all stays: only the kernel's go with their files in them.
	if got, want := groups(t, dir), []string{all, half}; !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
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

// Groups of version 2 get a controller from the top down. There are no files
// of limits in a fake group, so what is made must go again.
func TestVersion2DelegatesFromTheTop(t *testing.T) {
	h, dir := fake(t, map[string]string{"unified": "cgroup2 cgroup2 rw"}, "hugetlb memory")
	top := filepath.Join(dir, "unified")
	if err := os.Mkdir(filepath.Join(top, "bulkhead"), 0o755); err != nil {
		t.Fatal(err)
	}
	files := []string{filepath.Join(top, "cgroup.subtree_control"), filepath.Join(top, "bulkhead", "cgroup.subtree_control")}
	for _, f := range files {
		write(t, f, "")
	}
	if _, err := h.Create("a", cgroup.Limits{MemoryBytes: 1 << 20}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("created: %v", err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err != nil || string(b) != "+memory" {
			t.Errorf("%s: %q, %v", f, b, err)
		}
	}
	if _, err := os.Stat(filepath.Join(top, "bulkhead", "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left the group: %v", err)
	}
}

func TestCountsOfVersion2(t *testing.T) {
	h, dir := fake(t, map[string]string{"unified": "cgroup2 cgroup2 rw"}, "cpu memory pids")
	group := filepath.Join(dir, "unified", "bulkhead", "a")
	if err := os.MkdirAll(group, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"memory.current": "4096\n", "pids.current": "3\n",
		"cpu.stat":      "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n",
		"memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 5\noom_group_kill 1\n",
	} {
		write(t, filepath.Join(group, name), content)
	}
	want := cgroup.Usage{MemoryBytes: 4096, CPU: 1500 * time.Millisecond, PIDs: 3}
	if got, err := h.Open("a").Usage(); err != nil || got != want {
		t.Errorf("usage %+v, %v, want %+v", got, err, want)
	}
	if n, err := h.Open("a").OOMKills(); err != nil || n != 5 {
		t.Errorf("killed %d, %v, want 5", n, err)
	}
}
