package machine_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"bulkhead/test/leak"

	"golang.org/x/sys/unix"
)

// What these tests do would freeze, rename or damage the host. So each runs
// again in a process that takes a control group for the root of all, with
// mounts, a host name and processes of its own: the stand-in for a guest.

const roleKey = "MACHINE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleKey) {
	case "count":
		count(os.Args[1])
	case "nothing":
		return
	case "guest":
		for _, dir := range []string{"/tmp", "/run", "/etc"} {
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
				fmt.Fprintln(os.Stderr, "mount:", dir, err)
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

// inGuest reports whether this is the stand-in for a guest. If not, it runs
// the calling test there.
func inGuest(t *testing.T) bool {
	t.Helper()
	if os.Getenv(roleKey) == "guest" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("making control groups needs root")
	}
	leak.Check(t)
	group, dir := makeGroup(t)
	defer dir.Close()
	cmd := exec.CommandContext(t.Context(), "unshare", "--cgroup", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc",
		"/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args[slices.Index(cmd.Args, "/proc/self/exe")] = exe
	cmd.Env = append(os.Environ(), roleKey+"=guest")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	out, err := cmd.CombinedOutput()
	t.Logf("in %s:\n%s", filepath.Base(group), out)
	if err != nil {
		t.Errorf("in the guest: %v", err)
	}
	return false
}

// makeGroup makes a group that ends with the test, and everything in it.
func makeGroup(t *testing.T) (string, *os.File) {
	t.Helper()
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if unix.Statfs(mount, &fs) != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		group := filepath.Join(mount, fmt.Sprintf("bulkhead-%s-%d", t.Name(), os.Getpid()))
		if err := os.Mkdir(group, 0o755); err != nil {
			t.Skipf("cannot make control groups: %v", err)
		}
		t.Cleanup(func() { removeGroup(t, group) })
		if _, err := os.Stat(filepath.Join(group, "cgroup.freeze")); err != nil {
			t.Skipf("this kernel cannot freeze groups: %v", err)
		}
		dir, err := os.Open(group)
		if err != nil {
			t.Fatal(err)
		}
		return group, dir
	}
	t.Skip("no cgroup v2 on this host")
	return "", nil
}

func removeGroup(t *testing.T, group string) {
	os.WriteFile(filepath.Join(group, "cgroup.kill"), []byte("1"), 0)
	entries, _ := os.ReadDir(group)
	for _, e := range entries {
		if e.IsDir() {
			removeGroup(t, filepath.Join(group, e.Name()))
		}
	}
	// Who was killed leaves a moment later.
	err := os.Remove(group)
	for range 1_000_000 {
		if !errors.Is(err, unix.EBUSY) {
			break
		}
		runtime.Gosched()
		err = os.Remove(group)
	}
	if err != nil {
		t.Errorf("remove group: %v", err)
	}
}

// groups mounts the control groups as a guest sees them.
func groups(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
		t.Fatalf("mount cgroup2: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func mkdir(t *testing.T, elem ...string) string {
	t.Helper()
	dir := filepath.Join(elem...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// counter is a process that counts as fast as it can.
type counter struct{ mem []byte }

// count is what a counter's process does.
func count(path string) {
	mem, err := mapped(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "count:", err)
		os.Exit(1)
	}
	for n := uint64(1); ; n++ {
		binary.NativeEndian.PutUint64(mem, n)
		runtime.Gosched()
	}
}

func mapped(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return unix.Mmap(int(f.Fd()), 0, 8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// startCounter starts a counter in group, which is running on return.
func startCounter(t *testing.T, group *os.File) *counter {
	t.Helper()
	path := filepath.Join(t.TempDir(), "count")
	put(t, path, string(make([]byte, 8)))
	mem, err := mapped(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := role("count", path)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		unix.Munmap(mem)
	})
	c := &counter{mem}
	c.awaitMove()
	return c
}

func role(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleKey+"="+name)
	return cmd
}

func (c *counter) now() uint64 { return binary.NativeEndian.Uint64(c.mem) }

// awaitMove returns once the counter has moved.
func (c *counter) awaitMove() {
	for was := c.now(); c.now() == was; {
		runtime.Gosched()
	}
}

// stands reports whether the counter stands still while processes that run
// start and end.
func (c *counter) stands(t *testing.T) bool {
	t.Helper()
	was := c.now()
	for range 3 {
		if err := role("nothing").Run(); err != nil {
			t.Fatal(err)
		}
	}
	return c.now() == was
}
