package machine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/internal/guestd/machine"
)

const service = "bulkhead.slice/bulkhead-guest.service"

// newFreezer puts this process where systemd starts the agent.
func newFreezer(t *testing.T, root string) *machine.Freezer {
	t.Helper()
	put(t, filepath.Join(mkdir(t, root, service), "cgroup.procs"), "0")
	f, err := machine.NewFreezer(root)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// startCounters starts one in each kind of place where processes are.
func startCounters(t *testing.T, root string, f *machine.Freezer) map[string]*counter {
	t.Helper()
	work, done, err := f.Work()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	return map[string]*counter{
		"the agent's work":      startCounter(t, work),
		"a sibling of ours":     startCounter(t, open(t, mkdir(t, root, "bulkhead.slice/other"))),
		"a nested group":        startCounter(t, open(t, mkdir(t, root, "user.slice/app/deep"))),
		"a group named like us": startCounter(t, open(t, mkdir(t, root, "user.slice/bulkhead-guest.service/agent"))),
	}
}

func TestFreezer(t *testing.T) {
	if !inGuest(t) {
		return
	}
	root := groups(t)
	f := newFreezer(t, root)
	counters := startCounters(t, root, f)
	frozen := func(t *testing.T, f *machine.Freezer, want bool) {
		t.Helper()
		if got := f.Frozen(); got != want {
			t.Errorf("frozen = %v, want %v", got, want)
		}
		if got := f.Starts(); got == want {
			t.Errorf("while frozen is %v, that a process could start is %v", want, got)
		}
		for where, c := range counters {
			if want && !c.stands(t) {
				t.Errorf("in %s it runs", where)
			}
			if !want {
				c.awaitMove()
			}
		}
	}
	thaw := func(t *testing.T, f *machine.Freezer) {
		t.Helper()
		if err := f.Thaw(); err != nil {
			t.Fatalf("thaw: %v", err)
		}
		frozen(t, f, false)
	}
	frozen(t, f, false)
	t.Run("freezes everything but the agent", func(t *testing.T) {
		for range 2 { // repeating it is no error
			n, err := f.Freeze(t.Context())
			if err != nil || n != 3 {
				t.Fatalf("froze %d groups, error %v, want work, other and user.slice", n, err)
			}
			frozen(t, f, true)
		}
		thaw(t, f)
		thaw(t, f)
	})
	t.Run("thaws again when it must give up", func(t *testing.T) {
		if _, err := f.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := f.Freeze(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want that it was cancelled", err)
		}
		frozen(t, f, false)
	})
	t.Run("does not mind groups that come and go", func(t *testing.T) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for i := range 1000 {
				dir := filepath.Join(root, fmt.Sprintf("user.slice-%d", i%2))
				os.Mkdir(dir, 0o755)
				os.Remove(dir)
			}
		}()
		for range 20 {
			if _, err := f.Freeze(t.Context()); err != nil {
				t.Errorf("freeze: %v", err)
			}
			if err := f.Thaw(); err != nil {
				t.Errorf("thaw: %v", err)
			}
		}
		<-ended
	})
	t.Run("is found again by an agent that was started again", func(t *testing.T) {
		if _, err := f.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		again, err := machine.NewFreezer(root)
		if err != nil {
			t.Fatal(err)
		}
		thaw(t, again)
		if n, err := again.Freeze(t.Context()); err != nil || n != 3 {
			t.Errorf("froze %d groups, error %v, want 3", n, err)
		}
		frozen(t, again, true)
		put(t, filepath.Join(root, service, "cgroup.procs"), "0") // as systemd starts it
		again, err = machine.NewFreezer(root)
		if err != nil {
			t.Fatal(err)
		}
		thaw(t, again)
	})
}

// An image without systemd has the agent start in the root of all groups,
// where process 1 is and stays.
func TestFreezerWithoutInit(t *testing.T) {
	if !inGuest(t) {
		return
	}
	root := groups(t)
	f, err := machine.NewFreezer(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*machine.Freezer{f, nil} {
		if f == nil { // started again
			if f, err = machine.NewFreezer(root); err != nil {
				t.Fatal(err)
			}
		}
		work, done, err := f.Work()
		if err != nil {
			t.Fatal(err)
		}
		c := startCounter(t, work)
		done()
		if n, err := f.Freeze(t.Context()); err != nil || n != 1 {
			t.Fatalf("froze %d groups, error %v, want 1", n, err)
		}
		if !c.stands(t) {
			t.Error("it runs")
		}
		if err := f.Thaw(); err != nil {
			t.Fatal(err)
		}
		c.awaitMove()
	}
}

func TestFreezerWithoutGroups(t *testing.T) {
	if !inGuest(t) {
		return
	}
	for _, mount := range []string{"/proc", filepath.Join(t.TempDir(), "none")} {
		if _, err := machine.NewFreezer(mount); err == nil {
			t.Errorf("%s: made a freezer where there are no groups", mount)
		}
	}
}
