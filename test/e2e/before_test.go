package e2e_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon"
	"bulkhead/test/inside"
)

// A snapshot is taken just before what the operator calls risky, and a rollback
// to it undoes that.
func TestBeforeRisk(t *testing.T) {
	clock := &future{}
	h := inside.Run(t, daemon.Daemon{Clock: clock.now, Out: newOutside(t)}, nil).Base()
	b := h.Create("careful")
	h.Must("egress", "allow", b.Name, "api.example:7000")
	h.Must("schedule", b.Name, "--before-exec", "rm -r*,@packages", "--before-contact", "--before-interval", "10m")
	taken := func() (all []string) {
		var line client.Timeline
		h.JSON(&line, "timeline", b.Name)
		for _, s := range line.Snapshots {
			all = append(all, s.Cause+": "+s.What)
		}
		return all
	}
	b.Sh("echo precious > /srv/f; ls /srv")
	if got := taken(); len(got) > 0 {
		t.Errorf("nothing was risky, and there are %q", got)
	}
	b.Sh("cd /srv && rm -rf f")
	want := []string{"before-exec: sh -c cd /srv && rm -rf f"}
	if got := taken(); !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
	b.Exec("apt-get", "remove", "hello")
	if got := taken(); !slices.Equal(got, want) {
		t.Errorf("within the interval there are %q", got)
	}
	clock.ahead.Add(int64(11 * time.Minute))
	contact := `python3 -c "import socket; s = socket.create_connection(('api.example', 7000)); s.send(b'x'); assert s.recv(1) == b'x'"`
	b.Sh(contact)
	want = append(want, "before-contact: api.example:7000")
	if got := taken(); !slices.Equal(got, want) {
		t.Errorf("after a first contact there are %q, want %q", got, want)
	}
	clock.ahead.Add(int64(11 * time.Minute))
	b.Sh(contact)
	if got := taken(); !slices.Equal(got, want) {
		t.Errorf("after a second contact there are %q, want %q", got, want)
	}
	var line client.Timeline
	h.JSON(&line, "timeline", b.Name)
	b.Rollback(line.Snapshots[0].ID)
	if got := b.Sh("cat /srv/f"); got != "precious" {
		t.Errorf("the file is %q", got)
	}
	if r := h.CLI("schedule", b.Name, "--before-exec", "@everything"); r.Code != 2 || !strings.Contains(r.Stderr, "@packages") {
		t.Errorf("a group that is none: %d, %s", r.Code, r.Stderr)
	}
}
