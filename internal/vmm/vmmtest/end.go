package vmmtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bulkhead/internal/vmm"
)

func ends() []check {
	return []check{
		{"a guest that powers off has powered off", endsAs(ask("poweroff"), vmm.PoweredOff, "guest powered off")},
		{"a guest that reboots has rebooted", endsAs(ask("reboot"), vmm.Rebooted, "guest rebooted")},
		{"a guest that panics has died", endsAs(ask("panic"), vmm.Died, "panicked")},
		{"a machine killed from outside has died", endsAs(killOutside, vmm.Died, "killed")},
		{"a machine killed twice was killed", endsAs(killTwice, vmm.Killed, "killed")},
		{"a stopped machine can be killed", endsAs(killStopped, vmm.Killed, "killed")},
	}
}

// endsAs is a check that a machine which ended in some way tells it, and that
// nobody can do anything with it any more.
func endsAs(end func(*testing.T, *machine), cause vmm.Cause, reason string) func(*testing.T, *lab) {
	return func(t *testing.T, l *lab) {
		m := l.restore(t)
		end(t, m)
		if got := m.wait(t); got.Cause != cause || !strings.Contains(got.Reason, reason) {
			t.Errorf("exit %+v, want cause %s, reason %s", got, cause, reason)
		}
		wantGone(t, l, m.spec)
		f, err := os.Create(filepath.Join(t.TempDir(), "state"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for name, call := range map[string]func(context.Context) error{
			"stop": m.Stop, "continue": m.Continue,
			"save":    func(ctx context.Context) error { return m.SaveState(ctx, f) },
			"balloon": func(ctx context.Context) error { return m.Balloon(ctx, memoryMiB) },
			"guest":   func(ctx context.Context) error { return hear(ctx, m) },
		} {
			if err := call(t.Context()); err == nil {
				t.Errorf("%s of a machine that is gone succeeds", name)
			}
		}
		do(t, m.Kill)
		if got := m.Exit().Cause; got != cause {
			t.Errorf("killed after its end its cause is %s", got)
		}
	}
}

// hear reads from the guest channel.
func hear(ctx context.Context, m *machine) error {
	conn, err := m.Guest(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Read(make([]byte, 1))
	return err
}

func ask(what string) func(*testing.T, *machine) {
	return func(t *testing.T, m *machine) {
		t.Helper()
		if _, err := fmt.Fprintln(m.talk(t), what); err != nil {
			t.Fatal(err)
		}
	}
}

func killOutside(t *testing.T, m *machine) {
	t.Helper()
	if err := syscall.Kill(m.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func killTwice(t *testing.T, m *machine) {
	t.Helper()
	do(t, m.Kill, m.Kill)
}

func killStopped(t *testing.T, m *machine) {
	t.Helper()
	do(t, m.Stop, m.Kill)
}
