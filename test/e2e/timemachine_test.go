package e2e_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bulkhead/client"
	"bulkhead/test/harness"
)

// A paused sandbox is a snapshot and nothing else on the host; whatever is
// asked of it brings it back where it was.
func TestPause(t *testing.T) {
	h := harness.New(t).Base()
	b := h.Create("sleeper")
	b.Sh(counter)
	before := number(t, b.Sh("head -1 /run/counter"))
	boot := b.Sh("cat /proc/sys/kernel/random/boot_id")
	h.Must("egress", "allow", b.Name, "api.example")
	pid := b.Inspect().VMM.PID

	h.Must("pause", b.Name)
	gone(t, h, b, pid)
	if n := number(t, b.Sh("head -1 /run/counter")); n < before {
		t.Errorf("woken by an exec, the counter is at %d, was at %d", n, before)
	}
	if got := b.Sh("cat /proc/sys/kernel/random/boot_id"); got != boot {
		t.Errorf("it has booted: %s, was %s", got, boot)
	}
	if got := h.Must("egress", "show", b.Name); !strings.Contains(got, "api.example") {
		t.Errorf("its policy is %s", got)
	}
	if r := b.Exec("getent", "hosts", "forbidden.example"); r.Code == 0 {
		t.Errorf("its policy does not hold any more: %s", r.Stdout)
	}
	t.Run("a daemon later", func(t *testing.T) {
		h.Must("pause", b.Name)
		h.Kill()
		if err := h.Serve(); err != nil {
			t.Fatal(err)
		}
		if got := b.Inspect(); got.State != client.StatePaused {
			t.Errorf("it is %s", got.State)
		}
		b.Sh("test -e /run/counter")
	})
	t.Run("that stays paused", func(t *testing.T) {
		h.Must("pause", b.Name, "--stay")
		r := b.Exec("true")
		if r.Code != 125 || !strings.Contains(r.Stderr, "bulkhead resume sleeper") {
			t.Errorf("exec: %d, %s", r.Code, r.Stderr)
		}
		h.Must("resume", b.Name)
		b.Sh("test -e /run/counter")
	})
	t.Run("by several at once", func(t *testing.T) {
		h.Must("pause", b.Name)
		codes := make(chan harness.Result)
		for range 4 {
			go func() { codes <- b.Exec("true") }()
		}
		for range 4 {
			if r := <-codes; r.Code != 0 {
				t.Errorf("exec: %d, %s", r.Code, r.Stderr)
			}
		}
	})
	t.Run("its snapshot", func(t *testing.T) {
		h.Must("pause", b.Name)
		var line client.Timeline
		h.JSON(&line, "timeline", b.Name)
		if len(line.Snapshots) != 1 || line.Snapshots[0].Cause != "pause" || line.Head != line.Snapshots[0].ID {
			t.Fatalf("the timeline is %+v", line)
		}
		if r := h.CLI("timeline", "rm", "-f", b.Name, line.Head); r.Code != 5 {
			t.Errorf("what it is paused into can be removed: %d, %s", r.Code, r.Stderr)
		}
		var r client.RollbackResult
		if h.JSON(&r, "rollback", b.Name, line.Head); r.Kept != line.Head {
			t.Errorf("a rollback of a paused machine says %+v", r)
		}
		b.Sh("test -e /run/counter; touch /run/left")
		h.Must("pause", b.Name)
		h.JSON(&line, "timeline", b.Name)
		left := line.Head
		b.Sh("true")
		h.Must("pause", b.Name) // has all that the one before had
		if h.JSON(&line, "timeline", b.Name); len(line.Snapshots) != 1 || line.Head == left {
			t.Errorf("after two pauses the timeline is %+v", line)
		}
		b.Sh("true")
	})
	t.Run("all that run", func(t *testing.T) {
		if got := h.Must("pause", "--all"); got != "sleeper\n" {
			t.Errorf("paused are %q", got)
		}
		if got := h.Must("pause", "--all"); got != "" {
			t.Errorf("and again %q", got)
		}
		b.Sh("test -e /run/counter")
	})
}

// gone checks that nothing of a machine is left but its files.
func gone(t *testing.T, h *harness.Host, b *harness.Box, pid int) {
	t.Helper()
	s := b.Inspect()
	if s.State != client.StatePaused || s.VMM != nil || !strings.Contains(s.Hint, "bulkhead resume") {
		t.Errorf("it is %+v", s)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("its VMM is still there: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(h.Dir, "run", s.ID, "netns")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its network is still there: %v", err)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil || strings.Contains(string(mounts), s.ID) {
		t.Errorf("it has mounts still, %v", err)
	}
}

// Forks go on from one moment, each as a machine of its own, and the source
// goes on too.
func TestFork(t *testing.T) {
	h := host(t)
	b := h.Create("source")
	b.Sh(counter)
	b.Sh("echo precious > /srv/f")
	if r := h.CLIWith("value-of-a-key\n", "secret", "set", "forked"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	t.Cleanup(func() { h.CLI("secret", "rm", "forked") })
	h.Must("egress", "allow", b.Name, "api.example", "--secret", "forked", "--env", "KEY")
	stand := b.Sh("getent ahostsv4 api.example | head -1 | cut -d' ' -f1")

	b.Sh(gambler)
	draw(t, b) // it has its seed from before the fork

	const count = 3
	t.Cleanup(func() {
		for i := range count {
			h.CLI("rm", "-f", fmt.Sprintf("twin-%d", i+1))
		}
		h.CLI("rm", "-f", "older")
	})
	got := strings.Fields(h.Must("fork", b.Name, "--count", fmt.Sprint(count), "--name", "twin"))
	if strings.Join(got, " ") != "twin-1 twin-2 twin-3" {
		t.Fatalf("the forks are %v", got)
	}
	all := []*harness.Box{b}
	for _, name := range got {
		all = append(all, h.Box(name))
	}
	for what, script := range map[string]string{
		"hostname": "hostname", "machine-id": "cat /etc/machine-id", "boot id": "cat /proc/sys/kernel/random/boot_id",
		"kernel randomness": "head -c 32 /dev/urandom | sha256sum", "Python's secrets": "python3 -c 'import secrets; print(secrets.token_hex())'",
		"placeholder": "echo $KEY",
	} {
		seen := map[string]string{}
		for _, s := range all {
			v := s.Sh(script)
			if v == "" || seen[v] != "" {
				t.Errorf("%s of %s and %s is %q", what, s.Name, seen[v], v)
			}
			seen[v] = s.Name
		}
	}
	wantOwnLuck(t, all)
	users, pids, taps, channels := map[int]bool{}, map[int]bool{}, map[string]bool{}, map[string]bool{}
	for _, s := range all {
		if got := s.Sh("cat /srv/f; test -e /run/counter"); got != "precious" {
			t.Errorf("%s has %q", s.Name, got)
		}
		if got := s.Sh("getent ahostsv4 api.example | head -1 | cut -d' ' -f1"); got != stand {
			t.Errorf("api.example is %s in %s, was %s", got, s.Name, stand)
		}
		if r := s.Exec("getent", "hosts", "forbidden.example"); r.Code == 0 {
			t.Errorf("the policy does not hold in %s: %s", s.Name, r.Stdout)
		}
		v := s.Inspect().VMM
		users[v.Cage.UID], pids[v.PID] = true, true
		taps[networkOf(t, h, s)], channels[channelOf(t, h, s)] = true, true
	}
	if len(users) != count+1 || len(pids) != count+1 || len(taps) != count+1 || len(channels) != count+1 {
		t.Errorf("%d machines have %d users, %d VMMs, %d networks and %d channels", count+1, len(users), len(pids), len(taps), len(channels))
	}
	var line client.Timeline
	if h.JSON(&line, "timeline", b.Name); len(line.Snapshots) != 0 || line.Head != "" {
		t.Errorf("the source's timeline is %+v", line)
	}
	all[1].Sh("echo changed > /srv/f")
	if got := all[2].Sh("cat /srv/f"); got != "precious" {
		t.Errorf("a fork sees another's file: %q", got)
	}

	b.Snapshot("older")
	b.Sh("echo newer > /srv/f")
	if h.Must("fork", b.Name, "older", "--name", "older"); h.Box("older").Sh("cat /srv/f") != "precious" {
		t.Error("a fork of a snapshot is not as that was")
	}
	if r := h.CLI("fork", b.Name, "--name", "older"); r.Code == 0 || !strings.Contains(r.Stderr, "exists") {
		t.Errorf("a name that is taken: %d, %s", r.Code, r.Stderr)
	}
	if r := h.CLI("fork", b.Name, "--count", "0"); r.Code != 2 {
		t.Errorf("no forks: %d, %s", r.Code, r.Stderr)
	}
}

// What a rollback leaves can be gone back to.
func TestRollbackKeepsWhatItLeaves(t *testing.T) {
	h := host(t)
	b := h.Create("regret")
	b.Snapshot("start")
	b.Sh("echo work of a day > /srv/f")
	var r client.RollbackResult
	h.JSON(&r, "rollback", b.Name, "start")
	if r.Kept == "" || r.Lost != "" {
		t.Fatalf("the rollback says %+v", r)
	}
	b.Sh("test ! -e /srv/f")
	b.Snapshot("other-branch") // waits for its turn, not for the snapshot of the past
	past := appears(t, h, b, r.Kept)
	if past.Cause != "before-rollback" {
		t.Errorf("it is kept as %+v", past)
	}
	h.Must("rollback", b.Name, r.Kept, "--discard")
	if got := b.Sh("cat /srv/f"); got != "work of a day" {
		t.Errorf("the past has %q", got)
	}
	for range 6 {
		h.JSON(&r, "rollback", b.Name, "start")
	}
	h.Must("rollback", b.Name, r.Kept, "--discard") // what was told is there
	var line client.Timeline
	h.JSON(&line, "timeline", b.Name)
	kept := 0
	for _, s := range line.Snapshots {
		if s.Cause == "before-rollback" {
			kept++
		}
	}
	if kept < 3 || kept > 5 { // one may be on its way, one may not be gone
		t.Errorf("%d pasts are kept: %+v", kept, line.Snapshots)
	}
}

// appears returns a snapshot once it is there.
func appears(t *testing.T, h *harness.Host, b *harness.Box, id string) client.Snapshot {
	t.Helper()
	for range 1000 {
		var line client.Timeline
		h.JSON(&line, "timeline", b.Name)
		for _, s := range line.Snapshots {
			if s.ID == id {
				return s
			}
		}
	}
	t.Fatalf("snapshot %s does not appear", id)
	return client.Snapshot{}
}
