package boot_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/guestd/boot"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const roleKey = "BOOT_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleKey) == "bare" {
		if err := bare(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestLayAgent(t *testing.T) {
	run := t.TempDir()
	if err := boot.LayAgent(run); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("copies this binary to where the unit starts it", func(t *testing.T) {
		agent := filepath.Join(run, strings.TrimPrefix(boot.AgentPath, "/run"))
		if !bytes.Equal(read(t, agent), read(t, exe)) {
			t.Error("the copy differs")
		}
		if fi, err := os.Stat(agent); err != nil || fi.Mode() != 0o755 {
			t.Errorf("%v, error %v, want mode 0755", fi, err)
		}
	})
	wanted := filepath.Join(run, "systemd/system/sysinit.target.wants/bulkhead-guest.service")
	got := read(t, wanted)
	t.Run("has systemd start the unit", func(t *testing.T) {
		if diff := cmp.Diff(string(read(t, "testdata/bulkhead-guest.service")), string(got)); diff != "" {
			t.Errorf("unit (-want +got):\n%s", diff)
		}
	})
	t.Run("lays a unit that systemd understands", func(t *testing.T) {
		if _, err := exec.LookPath("systemd-analyze"); err != nil {
			t.Skipf("cannot ask systemd: %v", err)
		}
		// The program must exist where the unit is verified.
		unit := filepath.Join(t.TempDir(), filepath.Base(wanted))
		if err := os.WriteFile(unit, bytes.ReplaceAll(got, []byte(boot.AgentPath), []byte(exe)), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
		if err != nil || strings.Contains(string(out), filepath.Base(wanted)) {
			t.Errorf("systemd-analyze: %v\n%s", err, out)
		}
	})
}

func TestLoadModules(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
		want  string // of the error; empty for none
	}{
		{"is content without drivers", nil, ""},
		{"looks at drivers only", []string{"a.txt", "b"}, ""},
		{"names the driver that is none", []string{"10-b.ko", "20-a.ko"}, "load 10-b.ko: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, f), []byte("no driver"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := boot.LoadModules(dir)
			if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q…", err, tt.want)
			}
		})
	}
}

// An image without an init gets the agent as process 1, which needs control
// groups, terminals and shared memory.
func TestBareImage(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--cgroup", exe)
	cmd.Env = append(os.Environ(), roleKey+"=bare")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// bare runs with mounts of its own.
func bare() error {
	for _, dir := range []string{"/sys/fs/cgroup", "/dev/pts", "/dev/shm"} {
		unix.Unmount(dir, unix.MNT_DETACH) // as a kernel leaves it, on any host
	}
	if err := boot.MountBare(); err != nil {
		return err
	}
	for _, path := range []string{"/sys/fs/cgroup/cgroup.procs", "/dev/pts/ptmx", "/dev/shm"} {
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	return nil
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
