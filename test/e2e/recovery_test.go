package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/jail"
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

// kill -9 of the daemon in the middle of every operation, at many points.
// Afterwards the sandbox is usable, directly or by a rollback, half-made
// sandboxes are gone, and snapshots are whole or absent.
func TestDaemonKilledInTheMiddle(t *testing.T) {
	h := harness.New(t).Base()
	b := h.Create("survivor")
	b.Sh("echo precious > /srv/precious")
	b.Snapshot("good")
	// The delays spread over the operations, which take from half a second to
	// two; where exactly they hit does not matter, every outcome is checked.
	for i, delay := range []time.Duration{20, 80, 150, 250, 400, 600, 900, 1300} {
		for _, op := range [][]string{
			{"create", "base", "--name", fmt.Sprintf("half-%d", i)},
			{"snapshot", b.Name, "--name", fmt.Sprintf("snap-%d", i)},
			{"rollback", b.Name, "good"},
		} {
			killDuring(t, h, delay*time.Millisecond, op)
			checkAfterKill(t, h, b, op)
		}
	}
	for i, delay := range []time.Duration{10, 30, 60, 90, 120, 200, 300} {
		for _, op := range [][]string{
			{"pause", b.Name},
			{"exec", b.Name, "--", "true"}, // resumes it
			{"fork", b.Name, "--count", "2", "--name", fmt.Sprintf("half-fork-%d", i)},
		} {
			if op[0] == "exec" {
				h.Must("pause", b.Name)
			}
			killDuring(t, h, delay*time.Millisecond, op)
			checkAfterKill(t, h, b, op)
		}
	}
}

func killDuring(t *testing.T, h *harness.Host, delay time.Duration, op []string) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { h.CLI(op...) }) // fails or not, depending on the moment
	<-time.After(delay)
	h.Kill()
	wg.Wait()
	if err := h.Serve(); err != nil {
		t.Fatalf("daemon after kill during %v: %v", op, err)
	}
}

func checkAfterKill(t *testing.T, h *harness.Host, b *harness.Box, op []string) {
	t.Helper()
	var all []client.Sandbox
	h.JSON(&all, "ls")
	for _, s := range all {
		switch s.State {
		case client.StateRunning:
		case client.StatePaused:
			if s.Name != b.Name {
				t.Errorf("after kill during %v: %s is paused", op, s.Name)
			}
		case client.StateCrashed:
			if s.Reason == "" || s.Hint == "" {
				t.Errorf("after kill during %v: crashed without reason or way back: %+v", op, s)
			}
			if s.Name == b.Name {
				h.Must("rollback", b.Name, "good", "--discard")
			}
		default:
			t.Errorf("after kill during %v: %s is %s", op, s.Name, s.State)
		}
		if s.Name != b.Name {
			h.Must("rm", "-f", s.Name)
		}
	}
	if got := b.Sh("cat /srv/precious"); got != "precious" {
		t.Fatalf("after kill during %v: lost %q", op, got)
	}
	var tl client.Timeline
	h.JSON(&tl, "timeline", b.Name)
	for _, s := range tl.Snapshots {
		if s.Name != "good" {
			h.Must("rollback", b.Name, s.ID, "--discard") // whatever is listed loads
		}
	}
	h.Must("rollback", b.Name, "good", "--discard")
	qemus := vmms(t, h.Dir)
	if len(qemus) != 1 {
		t.Errorf("after kill during %v: %d VMMs for one sandbox: %v", op, len(qemus), qemus)
	}
}

// vmms lists the cages that were made for a state directory: there is one for
// each VMM, and none for what has ended.
func vmms(t *testing.T, dir string) (found []string) {
	t.Helper()
	leases, err := filepath.Glob(filepath.Join(jail.DefaultLeases, "[0-9]*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range leases {
		// Those of other daemons may go meanwhile.
		if b, _ := os.ReadFile(path); strings.Contains(string(b), `"`+dir+"/") {
			found = append(found, path)
		}
	}
	return found
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
