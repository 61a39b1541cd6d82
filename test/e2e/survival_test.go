package e2e_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"bulkhead/client"
	"bulkhead/test/harness"
)

// What ran when the host went down without a word is booted again, what was
// paused for that comes back where it was, what was paused before stays so, and
// what is to be kept alive comes back.
func TestHostRestart(t *testing.T) {
	h := harness.New(t).Base()
	ran, sleeper, kept, sent := h.Create("ran"), h.Create("sleeper"), h.Create("kept"), h.Create("sent")
	ran.Sh("echo precious > /srv/f; sync; " + counter)
	kept.Sh(counter)
	boot := sent.Sh("cat /proc/sys/kernel/random/boot_id")
	h.Must("schedule", kept.Name, "--keep-alive")
	h.Must("pause", sleeper.Name, kept.Name)
	h.Must("pause", sent.Name, "--until-boot")
	vmm := ran.Inspect().VMM.PID

	h.Kill()
	bury(t, vmm)
	if err := os.WriteFile(filepath.Join(h.Dir, "boot_id"), []byte("of another boot\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.Serve(); err != nil {
		t.Fatal(err)
	}
	events := follow(t, h, ran)
	events.story(t, "sandbox.recovered", "sandbox.start", "sandbox.started", "sandbox.brought_back")
	if got := ran.Sh("cat /srv/f; test -e /run/counter || echo booted"); got != "precious\nbooted" {
		t.Errorf("what ran says %q", got)
	}
	follow(t, h, kept).story(t, "sandbox.paused", "sandbox.resumed")
	if got := kept.Inspect().State; got != client.StateRunning {
		t.Errorf("what is to be kept alive is %s", got)
	}
	kept.Sh("test -e /run/counter")
	follow(t, h, sent).story(t, "sandbox.paused", "sandbox.resumed", "sandbox.brought_back")
	if got := sent.Inspect().State; got != client.StateRunning {
		t.Errorf("what was paused because the host goes down is %s", got)
	}
	if got := sent.Sh("cat /proc/sys/kernel/random/boot_id"); got != boot {
		t.Errorf("it is not where it was: boot id %s, was %s", got, boot)
	}
	if got := sleeper.Inspect().State; got != client.StatePaused {
		t.Errorf("what was paused is %s", got)
	}

	t.Run("and of the daemon alone nothing is started", func(t *testing.T) {
		pid := ran.Inspect().VMM.PID
		h.Kill()
		bury(t, pid)
		if err := h.Serve(); err != nil {
			t.Fatal(err)
		}
		if got := ran.Inspect(); got.State != client.StateCrashed {
			t.Errorf("it is %s", got.State)
		}
	})
}

// bury kills a process that is not ours, and waits until it is gone.
func bury(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for err := error(nil); !errors.Is(err, syscall.ESRCH); {
		err = syscall.Kill(pid, 0)
	}
}
