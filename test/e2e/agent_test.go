package e2e_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/test/harness"
)

// An agent that root inside has stopped holds nobody: what needs it fails and
// says what helps, which does not need it.
func TestSilentAgent(t *testing.T) {
	h := host(t)
	b := h.Create("silent")
	b.Sh("echo kept > /srv/kept")
	b.Snapshot("good")
	quiet := make(chan harness.Result, 1)
	go func() { quiet <- b.Exec("sh", "-c", "touch /run/quiet; sleep 1000") }()
	b.Sh("until test -e /run/quiet; do sleep 0.05; done")
	const stop = "kill -STOP $PPID"
	stopped := endAgent(t, h, b, stop)

	var all sync.WaitGroup
	for _, op := range [][]string{
		{"exec", b.Name, "--", "true"},
		{"cp", "/etc/hostname", b.Name + ":/srv/"},
		{"snapshot", b.Name},
	} {
		all.Go(func() { checkUnanswered(t, h, op) })
	}
	all.Wait()
	if s := b.Inspect(); s.State != client.StateRunning {
		t.Errorf("machine of a silent agent is %s", s.State)
	}
	select {
	case r := <-quiet:
		t.Errorf("a stream was cut because it was quiet: %+v", r)
	default:
	}

	b.Rollback("good")
	for _, stream := range []chan harness.Result{quiet, stopped} {
		if r := <-stream; r.Code == 0 {
			t.Errorf("a command ended well that ran before the rollback: %+v", r)
		}
	}
	if got := b.Sh("cat /srv/kept"); got != "kept" {
		t.Errorf("after rollback: %q", got)
	}
	stopped = endAgent(t, h, b, stop)
	h.Must("rm", "-f", b.Name)
	<-stopped
}

// endAgent has a script inside end the agent, its parent, for good, and returns
// when that is done. Nobody hears of the script's end before the session ends.
func endAgent(t *testing.T, h *harness.Host, b *harness.Box, script string) chan harness.Result {
	t.Helper()
	const said = "that was the agent"
	before := strings.Count(h.Must("logs", b.Name), said)
	result := make(chan harness.Result, 1)
	go func() { result <- b.Exec("sh", "-c", "exec 3>/dev/kmsg; "+script+"; echo "+said+" >&3") }()
	limit, tick := time.After(harness.Patience), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for strings.Count(h.Must("logs", b.Name), said) == before {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("agent of %s did not end", b.Name)
		}
	}
	return result
}

func checkUnanswered(t *testing.T, h *harness.Host, op []string) {
	t.Helper()
	r := h.CLI(op...)
	line, hint, _ := strings.Cut(strings.TrimSpace(r.Stderr), "\n")
	if r.Code == 0 || !strings.HasSuffix(line, "the agent inside does not answer") || !strings.HasPrefix(hint, "hint: bulkhead rollback ") {
		t.Errorf("%v: code %d, %q", op, r.Code, r.Stderr)
	}
}

// An agent that root inside kills comes back, as often as it is killed. In a
// machine so wrecked that it cannot, a rollback helps.
func TestAgentKilled(t *testing.T) {
	h := host(t)
	b := h.Create("killed-agent")
	b.Sh("echo kept > /srv/kept")
	for range 5 {
		killAgent(t, b)
	}
	b.Snapshot("whole")
	wrecked := endAgent(t, h, b, "rm -rf --no-preserve-root / 2>/dev/null; kill -9 $PPID")
	checkUnanswered(t, h, []string{"exec", b.Name, "--", "true"})
	b.Rollback("whole")
	if r := <-wrecked; r.Code == 0 {
		t.Errorf("a command ended well that ran before the rollback: %+v", r)
	}
	if got := b.Sh("cat /srv/kept"); got != "kept" {
		t.Errorf("after rollback: %q", got)
	}
	killAgent(t, b)
}

// killAgent returns when another agent answers: some tenths of a second later.
func killAgent(t *testing.T, b *harness.Box) {
	t.Helper()
	before := b.Sh("echo $PPID")
	b.Exec("sh", "-c", "kill -9 $PPID; sleep 60") // no answer comes
	const tries = 100
	for range tries {
		if r := b.Exec("sh", "-c", "echo $PPID"); r.Code == 0 {
			if after := strings.TrimSpace(r.Stdout); after == before {
				t.Errorf("the agent is still process %s", after)
			}
			return
		}
	}
	t.Fatal("the agent does not come back")
}
