package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bulkhead/client"
)

// The past can be looked into without going back there.
func TestLookIntoThePast(t *testing.T) {
	h := host(t)
	b := h.Create("historian")
	h.Must("egress", "allow", b.Name, "api.example")
	b.Sh("getent hosts api.example")
	b.Sh("mkdir /srv/d; echo one > /srv/d/kept; echo one > /srv/d/changed; echo one > /srv/d/gone; echo secret > /srv/mine; chmod 600 /srv/mine; sync")
	monday := b.Snapshot("monday")
	b.Sh("echo three > /srv/d/changed; rm /srv/d/gone; mkdir /srv/d/new; echo two > /srv/d/new/f; touch -d 2001-01-01 /srv/d/kept")
	tuesday := b.Snapshot("tuesday")
	b.Sh("touch -r /srv/d/changed /tmp/stamp; echo THREE > /srv/d/changed; touch -r /tmp/stamp /srv/d/changed; rm -r /srv/d/new")
	before := b.Inspect().VMM.PID

	differ := func(args ...string) (all []string) {
		t.Helper()
		for line := range strings.Lines(h.Must(append([]string{"diff", b.Name, "--output", "json"}, args...)...)) {
			var c client.FileChange
			if err := json.Unmarshal([]byte(line), &c); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if strings.HasPrefix(c.Path, "/srv/") {
				all = append(all, c.Kind+" "+c.Path)
			}
		}
		return all
	}
	if got, want := differ("monday", "tuesday"), []string{"changed /srv/d/changed", "removed /srv/d/gone", "changed /srv/d/kept", "added /srv/d/new", "added /srv/d/new/f"}; !slices.Equal(got, want) {
		t.Errorf("from monday to tuesday: %q, want %q", got, want)
	}
	if got, want := differ("tuesday", "monday"), []string{"changed /srv/d/changed", "added /srv/d/gone", "changed /srv/d/kept", "removed /srv/d/new", "removed /srv/d/new/f"}; !slices.Equal(got, want) {
		t.Errorf("from tuesday to monday: %q, want %q", got, want)
	}
	now := []string{"changed /srv/d/changed", "removed /srv/d/new", "removed /srv/d/new/f"}
	if got := differ("tuesday"); !slices.Equal(got, now) {
		t.Errorf("from tuesday to now: %q, want %q", got, now)
	}
	if got := differ("monday", "monday"); len(got) > 0 {
		t.Errorf("from monday to monday: %q", got)
	}
	if got := h.Must("diff", b.Name, "monday", "tuesday"); !strings.Contains(got, "~ /srv/d/changed  6 B, was 4 B\n") || !strings.Contains(got, "+ /srv/d/new/\n") {
		t.Errorf("as text:\n%s", got)
	}

	if got := h.Must("diff", monday.ID, tuesday.ID); !strings.Contains(got, "~ /srv/d/changed  6 B, was 4 B\n") {
		t.Errorf("by ids alone:\n%s", got)
	}

	dir := t.TempDir()
	h.Must("cp", monday.ID+":/srv/d/gone", dir)
	h.Must("cp", b.Name+"@monday:/srv/mine", dir)
	h.Must("cp", b.Name+"@monday:/srv/d", filepath.Join(dir, "copy"))
	for file, want := range map[string]string{"gone": "one\n", "mine": "secret\n", "copy/changed": "one\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", file, got, err)
		}
	}
	if r := h.CLI("exec", b.Name+"@monday", "--", "cat", "/srv/d/gone"); r.Stdout != "one\n" {
		t.Errorf("a command in the past: %+v", r)
	}
	if r := h.CLI("exec", b.Name+"@monday", "--", "getent", "hosts", "api.example"); r.Code == 0 {
		t.Errorf("the past has a network: %s", r.Stdout)
	}
	for ref, want := range map[string]struct {
		code int
		says string
	}{
		"historian@never": {3, `snapshot "never" is not in the timeline of sandbox historian`},
		"nobody@monday":   {3, `sandbox "nobody" not found`}, "historian@../x": {2, ""},
	} {
		if r := h.CLI("cp", ref+":/etc/passwd", dir); r.Code != want.code || !strings.Contains(r.Stderr, want.says) {
			t.Errorf("%s: %d, %s", ref, r.Code, r.Stderr)
		}
	}
	if r := h.CLI("cp", "/etc/hostname", "historian@monday:/root/"); r.Code != 2 || !strings.Contains(r.Stderr, "never changes") {
		t.Errorf("into the past: %d, %s", r.Code, r.Stderr)
	}
	if got := b.Inspect().VMM.PID; got != before {
		t.Errorf("the machine was another meanwhile: %d, was %d", got, before)
	}
	h.Must("pause", b.Name)
	if got := differ("tuesday"); !slices.Equal(got, now) {
		t.Errorf("paused, from tuesday to now: %q, want %q", got, now)
	}
	if got := b.Inspect().State; got != client.StatePaused {
		t.Errorf("looking has woken it: %s", got)
	}
	if left, _ := filepath.Glob(filepath.Join(h.Dir, "pool", "machines", "l*")); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}
