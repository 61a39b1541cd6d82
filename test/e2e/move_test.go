package e2e_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon"
	"bulkhead/test/harness"
	"bulkhead/test/inside"

	"github.com/klauspost/compress/zstd"
)

// A sandbox goes from one host to another as a file, and goes on there.
func TestMove(t *testing.T) {
	h := harness.New(t).Base()
	b := h.Create("mover")
	if r := h.CLIWith("value-of-a-key\n", "secret", "set", "travel"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	h.Must("egress", "allow", b.Name, "api.example", "--secret", "travel", "--env", "KEY")
	h.Must("schedule", b.Name, "--idle-timeout", "1h")
	b.Sh(counter)
	b.Sh("echo one > /srv/f")
	b.Snapshot("monday")
	b.Sh("echo two > /srv/f")
	before, id := number(t, b.Sh("head -1 /run/counter")), b.Sh("cat /etc/machine-id")

	dir := t.TempDir()
	now, then := filepath.Join(dir, "now"), filepath.Join(dir, "then")
	h.Must("export", b.Name, now)
	h.Must("export", b.Name+"@monday", then)
	if r := h.CLI("export", b.Name, now); r.Code != 4 {
		t.Errorf("over another file: %d, %s", r.Code, r.Stderr)
	}
	var line client.Timeline
	if h.JSON(&line, "timeline", b.Name); len(line.Snapshots) != 1 {
		t.Errorf("an export leaves %+v", line.Snapshots)
	}

	other := harness.New(t)
	t.Cleanup(func() { other.CLI("rm", "-f", "mover", "earlier") })
	other.Must("import", now)
	other.Must("import", then, "--name", "earlier")
	m, e := other.Box("mover"), other.Box("earlier")
	if n := number(t, m.Sh("head -1 /run/counter")); n < before {
		t.Errorf("its counter is at %d, was at %d", n, before)
	}
	if got := m.Sh("cat /srv/f") + e.Sh("cat /srv/f"); got != "twoone" {
		t.Errorf("the files are %q", got)
	}
	if got := m.Sh("cat /etc/machine-id"); got == id || got == e.Sh("cat /etc/machine-id") {
		t.Errorf("its machine-id is %s", got)
	}
	if got := other.Must("egress", "show", m.Name); !strings.Contains(got, "api.example") || strings.Contains(got, "travel") {
		t.Errorf("its policy is %s", got)
	}
	if got := m.Inspect().Schedule; got == nil || got.IdleSeconds != 3600 {
		t.Errorf("its schedule is %+v", got)
	}
	m.Sh("rm /srv/f")
	other.JSON(&line, "timeline", m.Name)
	if len(line.Snapshots) != 1 || line.Snapshots[0].Cause != "import" {
		t.Fatalf("its timeline is %+v", line)
	}
	m.Rollback(line.Snapshots[0].ID)
	if got := m.Sh("cat /srv/f"); got != "two" {
		t.Errorf("rolled back it has %q", got)
	}

	whole, err := os.ReadFile(now)
	if err != nil {
		t.Fatal(err)
	}
	if !holds(t, whole, b.Sh("echo $KEY")) {
		t.Error("the placeholder is not found in the archive: what else would not be?")
	}
	if holds(t, whole, "value-of-a-key") {
		t.Error("the archive holds a secret")
	}
	broken := filepath.Join(dir, "broken")
	for name, content := range map[string][]byte{"cut": whole[:len(whole)/2], "no archive": []byte("hello"), "changed": flipped(whole)} {
		if err := os.WriteFile(broken, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if r := other.CLI("import", broken, "--name", "broken"); r.Code != 11 {
			t.Errorf("%s: %d, %s", name, r.Code, r.Stderr)
		}
	}
	if r := other.CLI("import", now); r.Code != 4 {
		t.Errorf("a name that is taken: %d, %s", r.Code, r.Stderr)
	}
	if left, _ := filepath.Glob(filepath.Join(other.Dir, "pool", "s*", "*")); len(left) != 3 { // two imports, and what the rollback left
		t.Errorf("the pool has %v", left)
	}
}

// The time of a sandbox that was over before it was brought back is not the end of
// it again.
func TestImportOfAnOldArchive(t *testing.T) {
	clock, ticks := &future{}, make(chan time.Time)
	h := inside.Run(t, daemon.Daemon{Clock: clock.now, Ticks: ticks}, nil).Base()
	b := h.Create("short")
	h.Must("schedule", b.Name, "--ttl", "1h", "--on-expiry", "remove")
	file := filepath.Join(t.TempDir(), "short.bulkhead")
	h.Must("export", b.Name, file)
	clock.ahead.Add(int64(2 * time.Hour))
	ticks <- time.Time{}
	ticks <- time.Time{}
	if r := h.CLI("inspect", b.Name); r.Code != 3 {
		t.Errorf("its time is over, and it is there: %s", r.Stdout)
	}
	h.Must("import", file)
	t.Cleanup(func() { h.CLI("rm", "-f", b.Name) })
	ticks <- time.Time{}
	ticks <- time.Time{}
	if s := b.Inspect(); s.State != client.StateRunning {
		t.Errorf("brought back it is %s", s.State)
	}
}

// flipped is content with a byte changed in its middle.
func flipped(content []byte) []byte {
	content = append([]byte(nil), content...)
	content[len(content)/2] ^= 1
	return content
}

// holds reports whether an archive has a text anywhere in it.
func holds(t *testing.T, archive []byte, text string) bool {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	const stride = 1 << 20
	window := make([]byte, 0, 2*stride)
	for {
		n, err := io.ReadFull(z, window[len(window):len(window)+stride])
		window = window[:len(window)+n]
		if bytes.Contains(window, []byte(text)) {
			return true
		}
		if err != nil {
			return false
		}
		window = append(window[:0], window[len(window)-len(text):]...)
	}
}
