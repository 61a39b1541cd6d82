package desk_test

import (
	"context"
	"net/http"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/guestd/process"
	"bulkhead/internal/server/page/desk"
	"bulkhead/test/leak"
)

// agent is a desk whose one guest is this process.
func agent(t *testing.T) *desk.Desk {
	t.Helper()
	if u, err := user.Current(); err != nil || u.Uid != "0" {
		t.Skip("a program as root needs root")
	}
	home := t.TempDir()
	a := process.New(process.Options{Workdir: func() string { return home }, Env: func() map[string]string { return nil }})
	path, h := a.Handler()
	mux := http.NewServeMux()
	mux.Handle(path, h)
	t.Cleanup(a.Close)
	return deskOf(mux.ServeHTTP)
}

// child is a program that runs until it is told to end, as the desk sees it.
func child(t *testing.T, d *desk.Desk) (*exec.Cmd, client.Process) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	all, err := d.Programs(t.Context(), "otter")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all.Processes, func(p client.Process) bool { return p.PID == cmd.Process.Pid })
	if i < 0 {
		t.Fatal("the process is not listed")
	}
	return cmd, all.Processes[i]
}

func TestSignalEndsAProcess(t *testing.T) {
	leak.Check(t)
	d := agent(t)
	for want, kill := range map[string]bool{"signal: terminated": false, "signal: killed": true} {
		cmd, p := child(t, d)
		pid := strconv.Itoa(p.PID)
		// A number that has gone to another process since is not that process.
		if err := d.Signal(t.Context(), "otter", pid, client.ProcessSignal{Started: p.Started + 1, Kill: true}); !fault.Is(err, fault.NotFound) {
			t.Errorf("another process of that number: %v", err)
		}
		if err := d.Signal(t.Context(), "otter", pid, client.ProcessSignal{Started: p.Started, Kill: kill}); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || err.Error() != want {
			t.Errorf("it ended with %v, want %s", err, want)
		}
		if err := d.Signal(t.Context(), "otter", pid, client.ProcessSignal{Started: p.Started}); !fault.Is(err, fault.NotFound) {
			t.Errorf("one that has ended: %v", err)
		}
	}
}

// What names no process is no part of a command.
func TestSignalNeedsANumber(t *testing.T) {
	d := &desk.Desk{Transport: func(context.Context, string) (http.RoundTripper, error) {
		t.Error("the guest was asked")
		return nil, http.ErrServerClosed
	}}
	for _, pid := range []string{"", "0", "-1", "1;reboot", "self", "99999999999", "$(id)"} {
		if err := d.Signal(t.Context(), "otter", pid, client.ProcessSignal{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", pid, err)
		}
	}
}
