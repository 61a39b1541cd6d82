package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon"
	"bulkhead/test/harness"
	"bulkhead/test/inside"
)

// A machine that destroys itself is repaired without anybody asking, if its
// operator wants that, and the events tell the story.
func TestWatchdog(t *testing.T) {
	ticks := make(chan time.Time)
	h := inside.Run(t, daemon.Daemon{Clock: time.Now, Ticks: ticks}, nil).Base()
	b := h.Create("selfharm")
	// looks has the watchdog look so often; each look is over when the next is
	// taken.
	looks := func(n int) {
		for range n + 1 {
			ticks <- time.Time{}
		}
	}
	events := follow(t, h, b)
	b.Sh("echo precious > /srv/f")
	b.Snapshot("good")

	t.Run("nothing is wanted", func(t *testing.T) {
		b.Exec("mv", "/etc/passwd", "/etc/passwd.gone")
		looks(3)
		if got := b.Inspect(); got.State != client.StateRunning || !strings.Contains(got.Unhealthy, "/etc/passwd") {
			t.Errorf("it is %s, %q", got.State, got.Unhealthy)
		}
		if got := h.Must("ls"); !strings.Contains(got, "unhealthy") {
			t.Errorf("ls says %s", got)
		}
		b.Rollback("good")
		looks(1)
		events.story(t, "sandbox.unhealthy", "sandbox.healthy")
		if got := b.Inspect().Unhealthy; got != "" {
			t.Errorf("repaired it is %q", got)
		}
	})
	t.Run("rollback", func(t *testing.T) {
		h.Must("schedule", b.Name, "--on-unhealthy", "rollback")
		b.Exec("rm", "-rf", "--no-preserve-root", "/")
		looks(3)
		events.story(t, "sandbox.unhealthy", "sandbox.rolled_back", "sandbox.repaired")
		if got := b.Sh("cat /srv/f"); got != "precious" {
			t.Errorf("the file is %q", got)
		}
		var line client.Timeline
		h.JSON(&line, "timeline", b.Name)
		if last := line.Snapshots[len(line.Snapshots)-1]; last.Cause != "before-rollback" {
			t.Errorf("what it was is not kept: %+v", line.Snapshots)
		}
	})
	t.Run("reboot", func(t *testing.T) {
		h.Must("schedule", b.Name, "--on-unhealthy", "reboot")
		b.Sh("echo newer > /srv/f; sync")
		h.CLI("exec", b.Name, "--", "sh", "-c", "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger")
		events.story(t, "sandbox.died")
		looks(1)
		events.story(t, "sandbox.unhealthy", "sandbox.repaired")
		if got := b.Sh("cat /srv/f"); got != "newer" {
			t.Errorf("the file is %q", got)
		}
	})
}

// story follows the events of a sandbox until the watchdog has told all of
// these, in this order and after what it has told before.
func (f *follower) story(t *testing.T, want ...string) {
	t.Helper()
	for _, kind := range want {
		for {
			if !f.lines.Scan() {
				t.Fatalf("the events end before %s", kind)
			}
			var e client.Event
			if err := json.Unmarshal(f.lines.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			if e.Type == kind {
				break
			}
		}
	}
}

// follower reads the events of a sandbox as they come.
type follower struct{ lines *bufio.Scanner }

func follow(t *testing.T, h *harness.Host, b *harness.Box) *follower {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	c := h.Command(ctx, "events", "--follow", "--sandbox", b.Name, "--output", "json")
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		c.Wait() // it was ended
	})
	return &follower{bufio.NewScanner(out)}
}
