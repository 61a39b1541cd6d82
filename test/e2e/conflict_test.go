package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/test/harness"
)

// Bad input is answered with one line that names the thing, a way out, and an
// exit code; nothing changes.
func TestBadInput(t *testing.T) {
	h := host(t)
	a := h.Create("input-a")
	b := h.Create("input-b")
	a.Snapshot("of-a")
	b.Snapshot("of-b")
	before := h.Must("ls", "--output", "json")
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"unknown sandbox", []string{"exec", "nobody", "--", "true"}, `"nobody" not found`},
		{"ambiguous prefix", []string{"inspect", "i"}, "fits"},
		{"empty reference", []string{"inspect", ""}, "not the id or name"},
		{"duplicate name", []string{"create", "base", "--name", "input-a"}, "exists already"},
		{"snapshot of another sandbox", []string{"rollback", "input-a", "of-b"}, "not in the timeline"},
		{"unknown snapshot", []string{"rollback", "input-a", "never"}, "not in the timeline"},
		{"duplicate snapshot name", []string{"snapshot", "input-a", "--name", "of-a"}, "already"},
		{"name with a slash", []string{"create", "base", "--name", "a/b"}, "not usable"},
		{"name with dots", []string{"create", "base", "--name", ".."}, "not usable"},
		{"name with a control character", []string{"create", "base", "--name", "a\x1bb"}, "not usable"},
		{"snapshot name with a slash", []string{"snapshot", "input-a", "--name", "../x"}, "not usable"},
		{"memory of 0", []string{"template", "build", "tiny", "--memory", "0"}, "memory"},
		{"memory above the host's", []string{"template", "build", "huge", "--memory", "99999998"}, "host has"},
		{"unknown template", []string{"create", "nothing"}, `template "nothing" not found`},
		{"start of a running sandbox", []string{"start", "input-a"}, "running already"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := h.With(t).CLI(tt.args...)
			if r.Code == 0 {
				t.Fatalf("succeeded: %s", r.Stdout)
			}
			line, hint, _ := strings.Cut(strings.TrimSpace(r.Stderr), "\n")
			if !strings.HasPrefix(line, "bulkhead: ") || !strings.Contains(line, tt.want) {
				t.Errorf("says %q, want it to contain %q", line, tt.want)
			}
			if hint != "" && !strings.HasPrefix(hint, "hint: ") || strings.Contains(hint, "\n") {
				t.Errorf("after the first line: %q", hint)
			}
			if strings.ContainsRune(r.Stderr, 0x1b) {
				t.Errorf("escape sequence in %q", r.Stderr)
			}
		})
	}
	if after := h.Must("ls", "--output", "json"); after != before {
		t.Errorf("something changed:\n%s\nwas\n%s", after, before)
	}
}

// A snapshot that was changed on disk is refused by the part's name, and the
// machine is left alone.
func TestCorruptSnapshotIsRefused(t *testing.T) {
	h := host(t)
	b := h.Create("corrupt")
	for _, tt := range []struct {
		name, part string
		damage     func(dir string) error
	}{
		{"flipped byte in the state", "device state", func(dir string) error { return flip(filepath.Join(dir, "state"), 100) }},
		{"truncated memory", "memory", func(dir string) error { return os.Truncate(filepath.Join(dir, "memory"), 4096) }},
		{"truncated disk", "disk", func(dir string) error { return os.Truncate(filepath.Join(dir, "disk"), 4096) }},
		{"flipped byte in the manifest", "manifest", func(dir string) error { return flip(filepath.Join(dir, "manifest"), 40) }},
		{"missing state", "device state", func(dir string) error { return os.Remove(filepath.Join(dir, "state")) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := h.With(t)
			s := b.Snapshot(strings.ReplaceAll(strings.ToLower(tt.name), " ", "-"))
			dir := filepath.Join(h.Dir, "pool", "snapshots", s.ID)
			if err := tt.damage(dir); err != nil {
				t.Fatal(err)
			}
			pid := b.Inspect().VMM.PID
			r := h.CLI("rollback", b.Name, s.ID)
			if r.Code == 0 || !strings.Contains(r.Stderr, tt.part) {
				t.Errorf("code %d, %q, want it to name the %s", r.Code, r.Stderr, tt.part)
			}
			if got := b.Inspect(); got.State != client.StateRunning || got.VMM.PID != pid {
				t.Errorf("machine did not stay as it was: %+v", got)
			}
		})
	}
}

func flip(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 0x40
	_, err = f.WriteAt(b, at)
	return err
}

// Requests that meet wait for each other or are refused by name; the machine
// ends in a state that somebody asked for.
func TestRollbackWhileASnapshotIsTaken(t *testing.T) {
	h := host(t)
	b := h.Create("meet")
	b.Sh("echo first > /srv/f")
	b.Snapshot("first")
	b.Sh("echo second > /srv/f")
	var wg sync.WaitGroup
	var snap, back harness.Result
	wg.Go(func() { snap = h.CLI("snapshot", b.Name, "--name", "second") })
	wg.Go(func() { back = h.CLI("rollback", b.Name, "first") })
	wg.Wait()
	if snap.Code != 0 || back.Code != 0 {
		t.Fatalf("snapshot: %+v\nrollback: %+v", snap, back)
	}
	// Whichever came first, each did what it says.
	b.Rollback("first")
	if got := b.Sh("cat /srv/f"); got != "first" {
		t.Errorf("after rollback: %q", got)
	}
	b.Rollback("second")
	if got := b.Sh("cat /srv/f"); got != "first" && got != "second" {
		t.Errorf("second snapshot holds %q", got)
	}
}

func TestRemoveDuringExec(t *testing.T) {
	h := host(t)
	b := h.Create("removed")
	started := make(chan harness.Result)
	go func() { started <- b.Exec("sh", "-c", "touch /srv/started; sleep 1000") }()
	b.Sh("until test -e /srv/started; do sleep 0.05; done")
	h.Must("rm", "-f", b.Name)
	if r := <-started; r.Code == 0 {
		t.Errorf("exec in a removed sandbox ended with success: %+v", r)
	}
	if r := h.CLI("inspect", b.Name); r.Code == 0 {
		t.Error("removed sandbox is still there")
	}
}

// A full pool refuses work before it begins. Guests that go on writing are
// held before they break, and go on by themselves once there is room.
func TestFullPoolRefusesBeforeTheWork(t *testing.T) {
	h := harness.New(t, "--pool-size", "3GiB").Base()
	b := h.Create("fills")
	b.Sh("echo kept > /srv/kept")
	b.Snapshot("kept")
	// Writes until it is held; then the exec waits.
	filled := make(chan harness.Result, 1)
	go func() {
		filled <- b.Exec("sh", "-c", "touch /srv/filling; for i in $(seq 40); do head -c 100M /dev/urandom > /srv/big$i; sync; done")
	}()
	s := await(t, b, client.StateHeld)
	if !strings.Contains(s.Reason, "full") || s.Hint == "" {
		t.Errorf("held without reason or way out: %+v", s)
	}
	for _, op := range [][]string{
		{"snapshot", b.Name},
		{"create", "base", "--name", "too-many"},
		{"exec", b.Name, "--", "true"},
	} {
		if r := h.CLI(op...); r.Code == 0 || !strings.Contains(r.Stderr, "hint: ") {
			t.Errorf("%v with a full pool: code %d, %q", op, r.Code, r.Stderr)
		}
	}
	if got := b.Inspect().State; got != client.StateHeld {
		t.Fatalf("sandbox is %s", got)
	}
	// Going back needs no room and makes some.
	b.Rollback("kept")
	if r := <-filled; r.Code == 0 {
		t.Error("exec in a machine that is gone ended with success")
	}
	if got := b.Sh("cat /srv/kept; ls /srv | wc -l"); got != "kept\n1" {
		t.Errorf("after rollback: %q", got)
	}
}

// A held machine goes on where it was once there is room.
func TestHeldMachineGoesOn(t *testing.T) {
	h := harness.New(t, "--pool-size", "3GiB").Base()
	ballast, b := h.Create("ballast"), h.Create("goes-on")
	ballast.Sh("head -c 400M /dev/urandom > /srv/big; sync")
	filled := make(chan harness.Result, 1)
	go func() {
		filled <- b.Exec("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do head -c 100M /dev/urandom > /srv/f$i; sync; done; echo done")
	}()
	await(t, b, client.StateHeld)
	h.Must("rm", "-f", "ballast")
	if r := <-filled; r.Code != 0 || r.Stdout != "done\n" {
		t.Errorf("command in a machine that was held: %+v", r)
	}
	before := time.Now()
	says := b.Sh("date +%s.%N")
	checkClock(t, "date in a machine that was held", says, before, time.Now())
}

// Who fills the pool is held, and the neighbour goes on.
func TestNeighbourOfAFillerGoesOn(t *testing.T) {
	h := harness.New(t, "--pool-size", "3GiB").Base()
	neighbour, filler := h.Create("neighbour"), h.Create("filler")
	filled := make(chan harness.Result, 1)
	go func() {
		filled <- filler.Exec("sh", "-c", "for i in $(seq 40); do head -c 100M /dev/urandom > /srv/f$i; sync; done")
	}()
	if s := await(t, filler, client.StateHeld); !strings.Contains(s.Reason, "has written the most") {
		t.Errorf("held because %s", s.Reason)
	}
	var told []string
	for line := range strings.Lines(h.Must("events")) {
		for _, kind := range []string{"pool.low", "sandbox.hold"} {
			if strings.Contains(line, kind) && !slices.Contains(told, kind) {
				told = append(told, kind)
			}
		}
	}
	if want := []string{"pool.low", "sandbox.hold"}; !slices.Equal(told, want) {
		t.Errorf("told is %v, want %v", told, want)
	}
	neighbour.Sh("head -c 20M /dev/urandom > /srv/work; sync; sha256sum /srv/work")
	if got := neighbour.Inspect().State; got != client.StateRunning {
		t.Errorf("the neighbour is %s", got)
	}
	if got := filler.Inspect().State; got != client.StateHeld {
		t.Errorf("who fills the pool is %s", got)
	}
	h.Must("rm", "-f", filler.Name)
	<-filled
	neighbour.Sh("test -s /srv/work")
}

func TestExecStreamsAndPassesTheCodeThrough(t *testing.T) {
	h := host(t)
	b := h.Create("execs")
	if r := b.Exec("sh", "-c", "echo out; echo err >&2; exit 42"); r.Code != 42 || r.Stdout != "out\n" || r.Stderr != "err\n" {
		t.Errorf("%+v", r)
	}
	big := strings.Repeat("all the bytes\n", 100_000)
	if r := h.CLIWith(big, "exec", "-i", b.Name, "--", "cat"); r.Code != 0 || r.Stdout != big {
		t.Errorf("cat of %d bytes: code %d, %d bytes back, %s", len(big), r.Code, len(r.Stdout), r.Stderr)
	}
	if r := b.Exec("sh", "-c", "kill -9 $$"); r.Code != 137 {
		t.Errorf("killed command: code %d, want 137", r.Code)
	}
	if r := b.Exec("no-such-program"); r.Code != 127 {
		t.Errorf("unknown program: code %d, want 127", r.Code)
	}
	var run harness.Result
	if run = h.CLI("run", "base", "--", "sh", "-c", "hostname; exit 3"); run.Code != 3 || run.Stdout == "" {
		t.Errorf("run: %+v", run)
	}
}

func TestCopyBothWays(t *testing.T) {
	h := host(t)
	b := h.Create("copies")
	dir := t.TempDir()
	src := filepath.Join(dir, "src", "deep")
	if err := os.MkdirAll(src, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "run me"), []byte("#!/bin/sh\necho ran\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.Must("cp", filepath.Join(dir, "src"), b.Name+":/srv/")
	if got := b.Sh(`"/srv/src/deep/run me"`); got != "ran" {
		t.Errorf("copied program says %q", got)
	}
	b.Sh("ln -s /etc/shadow /srv/src/link; head -c 3000000 /dev/urandom > /srv/src/data")
	h.Must("cp", b.Name+":/srv/src", filepath.Join(dir, "back"))
	sum := b.Sh("sha256sum < /srv/src/data | cut -c1-64")
	data, err := os.ReadFile(filepath.Join(dir, "back", "data"))
	if err != nil || digest(data) != sum {
		t.Errorf("file came back different: %v", err)
	}
	// A link stays a link: it is never followed on the host.
	if target, err := os.Readlink(filepath.Join(dir, "back", "link")); err == nil && target != "/etc/shadow" {
		t.Errorf("link points to %q", target)
	}
	info, err := os.Stat(filepath.Join(dir, "back", "deep", "run me"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode not kept: %v %v", info, err)
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
