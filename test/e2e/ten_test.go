package e2e_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"bulkhead/client"
)

// Ten sandboxes of which eight are paused take the memory and processes of two,
// and all of them answer, also several at once.
func TestTenSandboxes(t *testing.T) {
	const all, awake = 10, 2
	h := host(t)
	h.Create("one")
	names := []string{"one"}
	for i := range all - 1 {
		names = append(names, fmt.Sprintf("more-%d", i+1))
	}
	t.Cleanup(func() { h.CLI(append([]string{"rm", "-f"}, names[1:]...)...) })
	h.Must("fork", "one", "--count", fmt.Sprint(all-1), "--name", "more")
	h.Must(append([]string{"pause"}, names[awake:]...)...)

	// wantAwake checks how many of them cost more than disk.
	wantAwake := func(want int) {
		t.Helper()
		var list []client.Sandbox
		h.JSON(&list, "ls")
		noOrphans(t, h.Dir, list)
		found := 0
		for _, s := range list {
			if s.VMM != nil {
				found++
			}
		}
		if len(list) != all || found != want {
			t.Errorf("of %d sandboxes %d run, want %d of %d", len(list), found, want, all)
		}
	}
	answers := func(name string) {
		r := h.Box(name).Exec("hostname")
		if got := strings.TrimSpace(r.Stdout); got != name {
			t.Errorf("%s answers %q, %s", name, got, r.Stderr)
		}
	}
	wantAwake(awake)
	for _, name := range names {
		answers(name)
		if name != names[0] && name != names[1] {
			h.Must("pause", name)
		}
	}
	wantAwake(awake)
	var crowd sync.WaitGroup
	for _, name := range names {
		crowd.Go(func() { answers(name) })
	}
	crowd.Wait()
	wantAwake(all)
	if got := strings.Fields(h.Must("pause", "--all")); len(got) != all {
		t.Errorf("paused are %v", got)
	}
	wantAwake(0)
}
