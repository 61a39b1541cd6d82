package harness

import (
	"strings"
	"syscall"

	"bulkhead/client"
)

// Base makes sure that the template "base" exists. The first time on a
// machine this builds it; later it comes from the cache.
func (h *Host) Base() *Host {
	h.tb.Helper()
	var all []client.Template
	h.JSON(&all, "template", "ls")
	for _, t := range all {
		if t.Name == "base" {
			return h
		}
	}
	h.Must("template", "build", "base")
	return h
}

// Box is a sandbox of a host.
type Box struct {
	h    *Host
	Name string
}

// Create makes a sandbox from the template base and removes it with the test.
func (h *Host) Create(name string) *Box {
	h.tb.Helper()
	h.Must("create", "base", "--name", name)
	h.tb.Cleanup(func() {
		h.CLI("rm", "-f", name) // a test may have removed it, or the daemon
	})
	return &Box{h: h, Name: name}
}

// Box returns a sandbox that exists. It is the caller's to remove.
func (h *Host) Box(name string) *Box { return &Box{h: h, Name: name} }

// Exec runs a command inside.
func (b *Box) Exec(args ...string) Result {
	return b.h.CLI(append([]string{"exec", b.Name, "--"}, args...)...)
}

// Sh runs a shell script inside that has to succeed, and returns what it
// prints without the last newline.
func (b *Box) Sh(script string) string {
	b.h.tb.Helper()
	r := b.Exec("sh", "-c", script)
	if r.Code != 0 {
		b.h.tb.Fatalf("in %s: %s: exit code %d\n%s%s", b.Name, script, r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSuffix(r.Stdout, "\n")
}

// Snapshot takes a named snapshot.
func (b *Box) Snapshot(name string) client.Snapshot {
	b.h.tb.Helper()
	var s client.Snapshot
	b.h.JSON(&s, "snapshot", b.Name, "--name", name)
	return s
}

// Rollback goes back to a snapshot.
func (b *Box) Rollback(snap string) client.RollbackResult {
	b.h.tb.Helper()
	var r client.RollbackResult
	b.h.JSON(&r, "rollback", b.Name, snap)
	return r
}

// Inspect returns the sandbox as the daemon sees it.
func (b *Box) Inspect() client.Sandbox {
	b.h.tb.Helper()
	var s client.Sandbox
	b.h.JSON(&s, "inspect", b.Name)
	return s
}

// KillVMM ends the sandbox's VMM as a crash would. The number comes from the
// daemon just before; it watches the process, so it is the right one.
func (b *Box) KillVMM() {
	b.h.tb.Helper()
	s := b.Inspect()
	if s.VMM == nil {
		b.h.tb.Fatalf("sandbox %s has no VMM", b.Name)
	}
	if err := syscall.Kill(s.VMM.PID, syscall.SIGKILL); err != nil {
		b.h.tb.Fatal(err)
	}
}
