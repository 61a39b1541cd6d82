package e2e_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/test/harness"
)

// A daemon that stops, or is killed, leaves its sandboxes running; the next
// one takes them over.
func TestSandboxesOutliveTheDaemon(t *testing.T) {
	h := harness.New(t).Base()
	b := h.Create("lives-on")
	b.Sh(counter)
	at := number(t, b.Sh("head -1 /run/counter"))
	pid := b.Inspect().VMM.PID
	for _, end := range []struct {
		name string
		do   func()
	}{{"stopped", h.Stop}, {"killed", h.Kill}} {
		end.do()
		if err := h.Serve(); err != nil {
			t.Fatalf("after the daemon was %s: %v", end.name, err)
		}
		if got := b.Inspect(); got.State != client.StateRunning || got.VMM.PID != pid {
			t.Fatalf("after the daemon was %s: %+v, want running with pid %d", end.name, got, pid)
		}
		n := number(t, b.Sh("head -1 /run/counter"))
		if n <= at {
			t.Errorf("after the daemon was %s: counter %d, was %d", end.name, n, at)
		}
		at = n
	}
	b.Snapshot("after")
	b.Rollback("after")
}

// A request that is sent again, because the daemon was killed before its answer
// was read, makes no second sandbox.
func TestRepeatedCreateOutlivesTheDaemon(t *testing.T) {
	h := harness.New(t).Base()
	create := func(key string) client.Sandbox {
		c := client.New(h.Socket())
		defer c.Close()
		s, err := c.Create(t.Context(), client.CreateRequest{TemplateID: "base", IdempotencyKey: key})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := create("once")
	h.Kill()
	if err := h.Serve(); err != nil {
		t.Fatal(err)
	}
	if again := create("once"); again.ID != first.ID {
		t.Errorf("the same request made %s and %s", first.ID, again.ID)
	}
	h.Must("rm", "-f", first.ID)
	if other := create("twice"); other.ID == first.ID {
		t.Error("another request made none")
	}
}

func TestKilledVMMIsReportedAndRolledBack(t *testing.T) {
	h := host(t)
	b := h.Create("crashes")
	b.Sh("echo the last words > /dev/kmsg; echo kept > /srv/kept")
	b.Snapshot("before")
	b.KillVMM()
	s := await(t, b, client.StateCrashed)
	if !strings.Contains(s.Reason, "killed") {
		t.Errorf("reason %q", s.Reason)
	}
	if !strings.Contains(s.ConsoleTail, "the last words") {
		t.Errorf("console tail does not hold the last words: %q", s.ConsoleTail)
	}
	if !strings.Contains(s.Hint, "bulkhead rollback crashes") {
		t.Errorf("hint %q", s.Hint)
	}
	b.Rollback("before")
	if got := b.Sh("cat /srv/kept"); got != "kept" {
		t.Errorf("after rollback: %q", got)
	}
}

func TestGuestPowersOffAndReboots(t *testing.T) {
	h := host(t)
	b := h.Create("power")
	boot := b.Sh("echo kept > /srv/kept; sync; cat /proc/sys/kernel/random/boot_id")
	b.Exec("systemctl", "poweroff", "--force")
	if s := await(t, b, client.StateStopped); !strings.Contains(s.Hint, "bulkhead start power") {
		t.Errorf("hint %q", s.Hint)
	}
	if r := b.Exec("true"); r.Code == 0 {
		t.Error("exec in a stopped sandbox succeeded")
	}
	h.Must("start", b.Name)
	if got := b.Sh("cat /srv/kept; hostname"); got != "kept\npower" {
		t.Errorf("after start: %q", got)
	}
	// The guest goes down some time after it was asked: what counts is that the
	// machine was started anew.
	started := b.Inspect().StartedAt
	b.Exec("systemctl", "reboot", "--force")
	awaitBox(t, b, "started anew", func(s client.Sandbox) bool {
		return s.State == client.StateRunning && s.StartedAt.After(started)
	})
	if got := b.Sh("cat /proc/sys/kernel/random/boot_id"); got == boot {
		t.Error("boot id is the old one after a reboot")
	}
}

// await waits until the daemon reports a state that it has no reason to leave.
func await(t *testing.T, b *harness.Box, want client.State) client.Sandbox {
	t.Helper()
	return awaitBox(t, b, string(want), func(s client.Sandbox) bool { return s.State == want })
}

func awaitBox(t *testing.T, b *harness.Box, what string, is func(client.Sandbox) bool) client.Sandbox {
	t.Helper()
	limit := time.After(harness.Patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if s := b.Inspect(); is(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s does not become %s: %+v", b.Name, what, b.Inspect())
		}
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	h := host(t)
	r := h.CLI("serve", "--state-dir", h.Dir, "--cache-dir", h.Cache, "--socket", filepath.Join(t.TempDir(), "s"))
	if r.Code == 0 || !strings.Contains(r.Stderr, fmt.Sprint(h.DaemonPID())) {
		t.Errorf("second daemon: code %d, %s", r.Code, r.Stderr)
	}
	h.Must("ls")
}
