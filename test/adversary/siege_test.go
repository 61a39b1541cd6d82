package adversary_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/vmm/qemu"
	"bulkhead/test/harness"
)

const (
	// whole is the snapshot from before all attacks.
	whole = "whole"
	// enough is how often the neighbour is asked, with and without the attack.
	enough = 40
	// mostRounds turns an attack without an effect, or without an end, into a
	// failure.
	mostRounds = 100

	// fair is how much longer the neighbour may take, tries how often that is
	// measured before it counts as too long: what else the host does comes and
	// goes, what a guest can take from its neighbour does not.
	fair  = 2.0
	tries = 6

	// daemonBudget is what the daemon may take with two sandboxes, in bytes.
	daemonBudget = 42 << 20
	// consoleBudget is for the current file and the one before it, each of
	// 256 KiB and what came with its last bytes, of both sandboxes.
	consoleBudget = 2 * 2 * (256<<10 + 16<<10)
	// logBudget is how many lines the daemon's log may get per attack besides
	// those that logged leaves out: two at each end of a machine.
	logBudget = 60
)

// siege is a guest that attacks, and its neighbour.
type siege struct {
	t                   *testing.T
	h                   *harness.Host
	api                 *client.Client
	attacker, neighbour *harness.Box
}

// toll is what an attack cost, and what is known of it.
type toll struct {
	name string
	// alone and attacked are how long the neighbour took to answer, in
	// milliseconds, without the attack and with it.
	alone, attacked []float64
	// peak is the daemon's in bytes, console what is kept of the console, lines
	// what the daemon logged.
	peak, console int64
	lines         int
	states        []client.State
	reason        string
	proven, back  bool
}

// endure has an attack happen, finds out what it costs, and undoes it.
func (s *siege) endure(a guestAttack) toll {
	s.t.Helper()
	s.forgetPeak()
	logged := s.logged()
	r := toll{name: a.name}
	var over <-chan struct{}
	if a.states == nil {
		over = s.outlast(a, &r)
	} else {
		over = s.outlive(a, &r)
	}
	r.peak, r.lines, r.console = s.peak(), s.logged()-logged, s.consoleSize()
	s.attacker.Rollback(whole)
	<-over
	r.back = s.attacker.Exec("cat", "/srv/kept").Stdout == "kept\n"
	return r
}

// outlast asks the neighbour during an attack that goes on. In between it holds
// the attacker's machine up, so that both numbers are from the same host, which
// may have other things to do.
func (s *siege) outlast(a guestAttack, r *toll) (over <-chan struct{}) {
	s.t.Helper()
	begun, over := s.launch(a.script)
	select {
	case <-begun:
	case <-over:
		s.t.Fatal("the attack does not begin")
	}
	pid := s.attacker.Inspect().VMM.PID
	defer syscall.Kill(pid, syscall.SIGCONT)
	for range mostRounds {
		s.signal(pid, syscall.SIGSTOP)
		r.alone = append(r.alone, s.ask(8)...)
		s.signal(pid, syscall.SIGCONT)
		r.attacked = append(r.attacked, s.ask(16)...)
		r.proven = regexp.MustCompile(a.proof).MatchString(s.h.Must("logs", s.attacker.Name))
		if r.proven && len(r.alone) >= enough {
			break
		}
	}
	now := s.attacker.Inspect()
	r.states, r.reason = []client.State{now.State}, now.Reason
	return over
}

// outlive asks the neighbour before and after attacks that end a machine, until
// it is seen in the last of the states.
func (s *siege) outlive(a guestAttack, r *toll) (over <-chan struct{}) {
	s.t.Helper()
	for r.proven = true; r.proven && len(r.attacked) < enough; {
		s.attacker.Rollback(whole)
		r.alone = append(r.alone, s.ask(10)...)
		_, over = s.launch(a.script)
		r.states = nil
		for range mostRounds * 16 {
			r.attacked = append(r.attacked, s.ask(1)...)
			now := s.attacker.Inspect()
			if now.State != a.states[len(r.states)] {
				continue
			}
			if r.states = append(r.states, now.State); len(r.states) == 1 {
				r.reason = now.Reason
			}
			if len(r.states) == len(a.states) {
				break
			}
		}
		r.proven = len(r.states) == len(a.states)
	}
	return over
}

// launch starts a script in the attacker. One channel gets a token when the
// script says that it begins, the other is closed at the end of its stream.
func (s *siege) launch(script string) (begun begin, over <-chan struct{}) {
	begun, done := begin(make(chan struct{}, 1)), make(chan struct{})
	ctx, cancel := context.WithTimeout(s.t.Context(), harness.Patience)
	go func() {
		defer close(done)
		defer cancel()
		_, _ = s.api.Exec(ctx, client.Exec{ // its end is the attack's business
			Sandbox: s.attacker.Name, Cmd: "sh", Args: []string{"-c", script}, Stdout: begun, Stderr: begun,
		})
	}()
	return begun, done
}

// begin gets a token with the first bytes that are written to it.
type begin chan struct{}

func (b begin) Write(p []byte) (int, error) {
	select {
	case b <- struct{}{}:
	default:
	}
	return len(p), nil
}

// ask has the neighbour answer n times.
func (s *siege) ask(n int) (ms []float64) {
	s.t.Helper()
	for range n {
		start := time.Now()
		if r := s.neighbour.Exec("true"); r.Code != 0 {
			s.t.Fatalf("the neighbour does not answer: %s", r.Stderr)
		}
		ms = append(ms, time.Since(start).Seconds()*1000)
	}
	return ms
}

func (s *siege) signal(pid int, sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		s.t.Fatal(err)
	}
}

func (s *siege) proc(name string) string {
	return filepath.Join("/proc", strconv.Itoa(s.h.DaemonPID()), name)
}

// forgetPeak makes what the daemon takes now its peak (proc_pid_clear_refs(5)).
func (s *siege) forgetPeak() {
	s.t.Helper()
	if err := os.WriteFile(s.proc("clear_refs"), []byte("5"), 0); err != nil {
		s.t.Fatal(err)
	}
}

func (s *siege) peak() int64 {
	s.t.Helper()
	b, err := os.ReadFile(s.proc("status"))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return kib << 10
}

// logged counts the lines of the daemon's log but those about our own requests
// and about changes of state, of which a machine makes one in a second at most.
func (s *siege) logged() int {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.h.Dir, "daemon.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	ours := bytes.Count(b, []byte(`msg="request answered"`)) + bytes.Count(b, []byte(`msg="state changed"`))
	return bytes.Count(b, []byte("\n")) - ours
}

// consoleSize is what all consoles take in files.
func (s *siege) consoleSize() (size int64) {
	s.t.Helper()
	err := filepath.WalkDir(filepath.Join(s.h.Dir, "run"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && (d.Name() == qemu.ConsoleFile || d.Name() == qemu.ConsoleOldFile) {
			fi, err := d.Info()
			if err != nil {
				return err
			}
			size += fi.Size()
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return size
}

// p95 is the time within which 95 of 100 answers came.
func p95(ms []float64) float64 {
	if len(ms) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(ms))
	return sorted[(len(sorted)*95-1)/100]
}

func (r toll) ratio() float64 { return p95(r.attacked) / p95(r.alone) }

const tollHead = "attack                  neighbour's p95, alone  attacked  ratio    n  daemon  console  log  way back  state"

func (r toll) String() string {
	states := []string{}
	for _, s := range r.states {
		states = append(states, string(s))
	}
	said := strings.Join(states, ", ")
	if r.reason != "" {
		said += " (" + r.reason + ")"
	}
	back := "works"
	if !r.back {
		back = "lost"
	}
	return fmt.Sprintf("%-23s %19.0f ms %6.0f ms %6.2f %4d %3d MiB %4d KiB %4d  %-8s  %s", r.name, p95(r.alone), p95(r.attacked),
		r.ratio(), len(r.attacked), r.peak>>20, r.console>>10, r.lines, back, said)
}

func (r toll) check(t *testing.T, a guestAttack) {
	t.Helper()
	want := toll{states: a.states, reason: a.reason}
	if want.states == nil {
		want.states = []client.State{client.StateRunning}
	}
	if !slices.Equal(r.states, want.states) || r.reason != want.reason {
		t.Errorf("the machine is %s (%s), want %s (%s)", r.states, r.reason, want.states, want.reason)
	}
	if !r.proven {
		t.Error("the attack had no effect")
	}
	if !r.back {
		t.Error("there is no way back")
	}
	if r.peak > daemonBudget || r.console > consoleBudget || r.lines > logBudget {
		t.Errorf("daemon took %d bytes, consoles %d bytes, log %d lines", r.peak, r.console, r.lines)
	}
}
