package e2e_test

import (
	"strings"
	"testing"
	"time"

	"bulkhead/internal/daemon"
	"bulkhead/test/inside"
)

// What an agent used under a wide policy becomes a narrow one, under which it
// still works.
func TestLearnedPolicy(t *testing.T) {
	h := inside.Run(t, daemon.Daemon{Clock: time.Now, Out: newOutside(t)}, map[string]string{"egress": "public"}).Base()
	b := h.Create("learner")
	call := func(name string) string {
		return b.Sh(`python3 -c '
import socket
try:
    c = socket.create_connection(("` + name + `", 7000))
    c.sendall(b"hello")
    print(c.recv(5).decode())
except OSError:
    print("refused")
'`)
	}
	if r := h.CLI("egress", "learn", b.Name, "propose"); r.Code == 0 || !strings.Contains(r.Stderr, "nothing was recorded") {
		t.Errorf("propose before start: exit %d, %s", r.Code, r.Stderr)
	}
	h.Must("egress", "learn", b.Name, "start")
	if got := call("used.example"); got != "hello" {
		t.Fatalf("used.example: %s", got)
	}
	h.Must("egress", "learn", b.Name, "stop")
	call("late.example")

	r := h.CLI("egress", "learn", b.Name, "propose")
	if !strings.Contains(r.Stderr, "- default public") || !strings.Contains(r.Stderr, "allowed used.example:7000, 1 x") {
		t.Errorf("the changes are %s", r.Stderr)
	}
	if strings.Contains(r.Stdout, "late.example") {
		t.Errorf("what came after the stop is in the proposal: %s", r.Stdout)
	}
	if got := h.Must("egress", "replay", b.Name, "none"); !strings.Contains(got, "used.example:7000") {
		t.Errorf("replay against none: %s", got)
	}
	if r := h.CLIWith(r.Stdout, "egress", "replay", b.Name, "-"); !strings.Contains(r.Stdout, "nothing that was recorded") {
		t.Errorf("replay against the proposal: %s%s", r.Stdout, r.Stderr)
	}
	if r := h.CLIWith(r.Stdout, "egress", "set", b.Name, "-"); r.Code != 0 {
		t.Fatalf("set the proposal: %s", r.Stderr)
	}
	if used, other := call("used.example"), call("other.example"); used != "hello" || other != "refused" {
		t.Errorf("with the proposal: used.example %s, other.example %s", used, other)
	}
}
