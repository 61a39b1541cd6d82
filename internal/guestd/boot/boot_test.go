package boot_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/guestd/boot"

	"github.com/google/go-cmp/cmp"
)

func TestLayAgent(t *testing.T) {
	run := t.TempDir()
	if err := errors.Join(boot.LayAgent(run), boot.LayUnit(run)); err != nil {
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

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
