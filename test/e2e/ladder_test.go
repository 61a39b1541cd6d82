package e2e_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon"
	"bulkhead/internal/reclaim"
	"bulkhead/test/harness"
	"bulkhead/test/inside"
)

// waiter asks a question over the network, and writes down the answer and when
// it came.
const waiter = `systemd-run --quiet --unit waiter python3 -c '
import socket, time
c = socket.create_connection(("answers.example", 7000))
c.sendall(b"why?")
answer = c.recv(100).decode()
open("/run/answer", "w").write(answer + " " + str(time.time()))
'`

// A machine in which nothing happens goes down step by step, and comes up by
// whatever is asked of it, and by what the network has for it.
func TestIdleLadder(t *testing.T) {
	clock, ticks, world := &future{}, make(chan time.Time), newAnswers(t)
	h := inside.Run(t, daemon.Daemon{Clock: clock.now, Ticks: ticks, Out: &outside{Listener: world}}, nil).Base()
	b := h.Create("ladder")
	h.Must("egress", "allow", b.Name, "answers.example:7000")
	h.Must("schedule", b.Name, "--idle-timeout", "30m")
	pass := func(d time.Duration) {
		clock.ahead.Add(int64(d))
		ticks <- time.Time{}
		ticks <- time.Time{}
	}
	// What is still on its way to it, like the network's word that it has got
	// something, may wake it at once: then it is quiet again.
	suspend := func() {
		t.Helper()
		for b.Inspect().State != client.StateSuspended && t.Context().Err() == nil {
			pass(0)
			pass(time.Minute)
		}
	}
	b.Sh(counter + "; " + waiter)
	asked := world.accept(t)
	pid := b.Inspect().VMM.PID

	suspend()
	if s := b.Inspect(); !strings.Contains(s.Reason, "stopped in memory") || s.VMM.PID != pid || s.MemoryUsedMB == 0 {
		t.Errorf("it is %+v", s)
	}
	for range 4 { // as often as a watchdog loses patience
		pass(time.Minute)
	}
	if s := b.Inspect(); s.State != client.StateSuspended || s.Unhealthy != "" {
		t.Errorf("left alone it is %s, %s", s.State, s.Unhealthy)
	}
	began := clock.now()
	if _, err := asked.Write([]byte("because")); err != nil {
		t.Fatal(err)
	}
	await(t, b, client.StateRunning) // by the answer, nobody has asked for it
	answer, at, _ := strings.Cut(b.Sh("until test -s /run/answer; do sleep 0.05; done; cat /run/answer"), " ")
	if answer != "because" {
		t.Errorf("the answer is %q", answer)
	}
	checkClock(t, "who waited for the answer", at, began, clock.now())

	suspend()
	before, count := clock.now(), time.Now()
	says := b.Sh("date +%s.%N")
	t.Logf("date answered after %s, the command line's start included", time.Since(count))
	checkClock(t, "date in a machine that was woken", says, before, clock.now())
	suspend()
	b.Snapshot("of-one-that-stands-still")
	suspend()
	b.Rollback("of-one-that-stands-still")
	b.Sh("test -e /run/counter")
	suspend()
	h.Must("schedule", b.Name, "--suspend-after", "0") // it goes on, and is not stopped in memory again
	pass(0)
	pass(10 * time.Minute)
	if got := b.Inspect().State; got != client.StateRunning {
		t.Errorf("not to be suspended, it is %s", got)
	}
	pass(21 * time.Minute)
	await(t, b, client.StatePaused)
	b.Sh("test -e /run/counter")
	if got := h.Must("events", "--sandbox", b.Name, "--kind", "sandbox.unhealthy"); strings.Contains(got, "unhealthy") {
		t.Errorf("events are %s", got)
	}
}

// What a machine is refused, and that it is told so, is no work: one that asks for
// nothing else goes to rest.
func TestRefusedMachineGoesToRest(t *testing.T) {
	clock, ticks := &future{}, make(chan time.Time)
	h := inside.Run(t, daemon.Daemon{Clock: clock.now, Ticks: ticks}, nil).Base()
	b := h.Create("nags")
	h.Must("schedule", b.Name, "--idle-timeout", "30m", "--suspend-after", "0")
	b.Sh("systemd-run --quiet --unit nags sh -c 'while sleep 0.2; do getent hosts forbidden.example; done'")
	refused := func() (count int) {
		var e client.Egress
		h.JSON(&e, "egress", "show", b.Name)
		for _, d := range e.Denied {
			count += d.Count
		}
		return count
	}
	for range 5 {
		// It is told every second, so by then it was.
		for enough := refused() + 15; refused() < enough && b.Inspect().State == client.StateRunning && t.Context().Err() == nil; {
		}
		clock.ahead.Add(int64(10 * time.Minute))
		ticks <- time.Time{}
		ticks <- time.Time{}
	}
	if got := b.Inspect().State; got != client.StatePaused {
		t.Errorf("it is %s", got)
	}
	if got := b.Sh("cat /run/bulkhead/denied.json"); !strings.Contains(got, "forbidden.example") {
		t.Errorf("it was told %s", got)
	}
}

// answers is a world that takes its time to answer.
type answers struct{ net.Listener }

func newAnswers(t *testing.T) *answers {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &answers{Listener: l}
	t.Cleanup(func() { l.Close() })
	return a
}

// accept waits for a connection and for the question on it.
func (a *answers) accept(t *testing.T) net.Conn {
	t.Helper()
	conn, err := a.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// A machine that stands still costs nothing but memory, and the daemon that
// comes after a killed one knows it as what it is.
func TestSuspendedOutlivesTheDaemon(t *testing.T) {
	h := harness.New(t).Base()
	b := h.Create("still")
	b.Sh("touch /run/mark") // in memory
	h.Must("schedule", b.Name, "--suspend-after", "15s")
	await(t, b, client.StateSuspended)
	h.Kill()
	if err := h.Serve(); err != nil {
		t.Fatal(err)
	}
	s := b.Inspect()
	if s.State != client.StateSuspended || s.Reason == "" {
		t.Fatalf("it is %+v", s)
	}
	spent := processorTime(t, s.VMM.PID)
	h.Kill()
	if err := h.Serve(); err != nil {
		t.Fatal(err)
	}
	if more := processorTime(t, s.VMM.PID) - spent; more > 200*time.Millisecond {
		t.Errorf("while it stands still it takes %s of a processor", more)
	}
	from := time.Now()
	checkClock(t, "date", b.Sh("test -e /run/mark && date +%s.%N"), from, time.Now().Add(time.Minute))
	if got := b.Inspect(); got.State != client.StateRunning || got.VMM.PID != s.VMM.PID {
		t.Errorf("woken it is %+v", got)
	}
}

func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	d, err := reclaim.ProcessorTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
