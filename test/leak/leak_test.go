package leak_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bulkhead/test/leak"
)

// recorder is a test that leak.Check may fail.
type recorder struct {
	testing.TB
	dir      string
	errors   []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) TempDir() string  { return filepath.Join(r.dir, "001") }
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func (r *recorder) finish() {
	for _, f := range r.cleanups {
		f()
	}
}

// run runs a command of the host that needs root and, in some places, more
// than root has.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Skipf("cannot %s %s here: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// start starts a program that the test ends itself.
func start(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func end(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait() // says that it was killed
}

func TestCheck(t *testing.T) {
	leaks := []struct {
		name string
		// make leaves something behind, in dir if that matters, and returns
		// what the report has to say and how to remove it.
		make func(t *testing.T, dir string) (want string, undo func())
	}{
		{"goroutine", func(*testing.T, string) (string, func()) {
			stop := make(chan struct{})
			go func() { <-stop }()
			return "leak_test.TestCheck", func() { close(stop) }
		}},
		{"child", func(t *testing.T, _ string) (string, func()) {
			cmd := start(t, "tail", "-f", "/dev/null")
			return fmt.Sprintf("process %d, started at ", cmd.Process.Pid), func() { end(cmd) }
		}},
		{"child of a child", func(t *testing.T, _ string) (string, func()) {
			cmd := exec.Command("sh", "-c", "cat; :")
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			return "sh -c cat", func() {
				in.Close()
				cmd.Wait()
			}
		}},
		{"child that nobody waited for", func(t *testing.T, _ string) (string, func()) {
			cmd := start(t, "true")
			err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
			if err != nil {
				t.Fatal(err)
			}
			return "nobody waited for it", func() { end(cmd) }
		}},
		{"orphan that has the folder in its arguments", func(t *testing.T, dir string) (string, func()) {
			pid := run(t, "sh", "-c", `tail -f /dev/null "$1" >/dev/null 2>&1 & echo $!`, "sh", dir)
			return "process " + pid, func() { run(t, "kill", "-KILL", pid) }
		}},
		{"mount", func(t *testing.T, dir string) (string, func()) {
			at := filepath.Join(dir, "a b")
			if err := os.Mkdir(at, 0o700); err != nil {
				t.Fatal(err)
			}
			run(t, "mount", "-t", "tmpfs", "none", at)
			return at + " (tmpfs on none)", func() { run(t, "umount", at) }
		}},
		{"loop device", func(t *testing.T, dir string) (string, func()) {
			file := filepath.Join(dir, "disk")
			if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			dev := run(t, "losetup", "--find", "--show", file)
			return dev + " on " + file, func() { run(t, "losetup", "--detach", dev) }
		}},
		{"control group", func(t *testing.T, dir string) (string, func()) {
			group := "/sys/fs/cgroup"
			if _, err := os.Stat(group + "/pids"); err == nil {
				group += "/pids" // cgroup v1
			}
			group += "/bulkhead-" + filepath.Base(dir)
			run(t, "mkdir", group)
			return "control group " + group, func() { run(t, "rmdir", group) }
		}},
		{"cage", func(t *testing.T, dir string) (string, func()) {
			lease := fmt.Sprintf("/run/bulkhead/uids/%d", os.Getpid())
			run(t, "mkdir", "-p", filepath.Dir(lease))
			if err := os.WriteFile(lease, fmt.Appendf(nil, `{"dir":"%s/run"}`, dir), 0o600); err != nil {
				t.Fatal(err)
			}
			return "for " + dir, func() { run(t, "rm", lease) }
		}},
		{"network namespace", func(t *testing.T, dir string) (string, func()) {
			name := filepath.Base(dir)
			run(t, "ip", "netns", "add", name)
			return "network namespace /run/netns/" + name, func() { run(t, "ip", "netns", "delete", name) }
		}},
		{"tap", func(t *testing.T, _ string) (string, func()) {
			dev := fmt.Sprintf("bhl%d", os.Getpid())
			run(t, "ip", "tuntap", "add", "dev", dev, "mode", "tap")
			return "tap device " + dev, func() { run(t, "ip", "link", "delete", dev) }
		}},
	}
	for _, tt := range leaks {
		t.Run(tt.name, func(t *testing.T) {
			careless := &recorder{TB: t, dir: t.TempDir()}
			careful := &recorder{TB: t, dir: careless.dir}
			leak.CheckAtOnce(careless)
			leak.Check(careful)
			want, undo := tt.make(t, careless.dir)
			careless.finish()
			undo()
			careful.finish()

			if got := strings.Join(careless.errors, "\n"); len(careless.errors) != 1 && tt.name != "child of a child" || !strings.Contains(got, want) {
				t.Errorf("left behind: %q\ngot: %s", want, got)
			}
			if len(careful.errors) > 0 {
				t.Errorf("left behind nothing\ngot: %s", careful.errors)
			}
		})
	}
}

// What somebody else's cage has on this host at the same time is not ours.
func TestForeignCage(t *testing.T) {
	r := &recorder{TB: t, dir: t.TempDir()}
	leak.CheckAtOnce(r)
	uid := fmt.Sprintf("9%d", os.Getpid())
	run(t, "mkdir", "-p", "/run/bulkhead/uids")
	lease := "/run/bulkhead/uids/" + uid
	if err := os.WriteFile(lease, []byte(`{"dir":"/srv/elsewhere/run"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	defer run(t, "rm", lease)
	group := "/sys/fs/cgroup"
	if _, err := os.Stat(group + "/pids"); err == nil {
		group += "/pids" // cgroup v1
	}
	group += "/bulkhead"
	run(t, "mkdir", "-p", group+"/u"+uid)
	defer exec.Command("rmdir", group).Run() // unless it is somebody's already
	defer run(t, "rmdir", group+"/u"+uid)
	r.finish()
	for _, e := range r.errors {
		if strings.HasSuffix(e, "u"+uid) || strings.HasSuffix(e, "/bulkhead") {
			t.Error(e)
		}
	}
}
