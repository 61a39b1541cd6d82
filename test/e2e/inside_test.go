package e2e_test

import (
	"strings"
	"testing"

	"bulkhead/client"
)

// A machine asks for a snapshot of itself, breaks, and asks to be rolled back:
// nobody else has a hand in it, and the operator is told.
func TestMachineAsksForItself(t *testing.T) {
	h := host(t)
	b := h.Create("selfish")
	const url = "http://bulkhead.internal"
	b.Sh("echo precious > /srv/f")
	answer := b.Sh("curl -sS -X POST " + url + "/snapshot")
	var line client.Timeline
	h.JSON(&line, "timeline", b.Name)
	if len(line.Snapshots) != 1 || line.Snapshots[0].Cause != "inside" || !strings.Contains(answer, line.Snapshots[0].ID) {
		t.Fatalf("the machine was told %s, the timeline is %+v", answer, line)
	}
	id := line.Snapshots[0].ID
	if got := b.Sh("curl -sS " + url + "/timeline; bulkhead-guest timeline"); strings.Count(got, id) != 2 {
		t.Errorf("it sees %s", got)
	}
	if got := b.Sh("bulkhead-guest snapshot"); len(got) != len(id) || got == id {
		t.Errorf("a second snapshot is %q", got)
	}
	if r := b.Exec("bulkhead-guest", "rollback", "never"); r.Code != 1 || !strings.Contains(r.Stderr, "no such snapshot") {
		t.Errorf("a rollback to nowhere: %+v", r)
	}
	// The request is the last thing that this machine does.
	b.Exec("sh", "-c", `rm -rf /srv /home; curl -sS -d '{"snapshot":"`+id+`"}' `+url+`/rollback; sleep 60`)
	for range 1000 {
		if r := b.Exec("cat", "/srv/f"); r.Stdout == "precious\n" {
			break
		}
	}
	if got := b.Sh("cat /srv/f"); got != "precious" {
		t.Errorf("after its rollback it has %q", got)
	}
	for _, kind := range []string{"inside.rollback", "sandbox.rolled_back"} {
		if got := h.Must("events", "--sandbox", b.Name, "--kind", kind); !strings.Contains(got, id) {
			t.Errorf("events of kind %s are %q", kind, got)
		}
	}
	if got := h.Must("blast-radius", b.Name); !strings.Contains(got, "its own rollback at http://bulkhead.internal") {
		t.Errorf("blast-radius says %s", got)
	}
	if r := h.CLIWith("version: 1\ninside: [timeline]\n", "egress", "set", b.Name, "-"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	if got := b.Sh("curl -sS -w %{http_code} -X POST " + url + "/snapshot"); !strings.HasSuffix(got, "403") {
		t.Errorf("what the policy does not allow is answered by %s", got)
	}
	if r := b.Exec("curl", "-sS", "https://bulkhead.internal/timeline"); r.Code == 0 {
		t.Errorf("another port answers %s", r.Stdout)
	}
}
