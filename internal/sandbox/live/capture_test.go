package live_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/pool"
	"bulkhead/internal/pool/pooltest"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/vmm"
	"bulkhead/proto/machine"
)

func TestMain(m *testing.M) { pooltest.Main(m) }

// story writes down what is done to a machine and its files, in order.
type story struct {
	steps []string
	// fail makes the step of that name fail.
	fail string
}

func (s *story) step(name string) error {
	s.steps = append(s.steps, name)
	if name == s.fail {
		return errors.New(name + " fails")
	}
	return nil
}

// between returns the steps after from and before to.
func (s *story) between(from, to string) []string {
	i, j := slices.Index(s.steps, from), slices.Index(s.steps, to)
	if i < 0 || j < i {
		return []string{from + " … " + to + " did not happen"}
	}
	return s.steps[i+1 : j]
}

type fakeVM struct{ *story }

func (v fakeVM) PID() int                                { return 1 }
func (v fakeVM) Guest(context.Context) (net.Conn, error) { return nil, errors.ErrUnsupported }
func (v fakeVM) Stop(context.Context) error              { return v.step("stop") }
func (v fakeVM) Continue(context.Context) error          { return v.step("continue") }
func (v fakeVM) Balloon(context.Context, int) error      { return v.step("balloon") }
func (v fakeVM) Kill(context.Context) error              { return v.step("kill") }
func (v fakeVM) Done() <-chan struct{}                   { return nil }
func (v fakeVM) Exit() vmm.Exit                          { return vmm.Exit{} }

func (v fakeVM) SaveState(_ context.Context, f *os.File) error {
	if err := v.step("save state"); err != nil {
		return err
	}
	_, err := f.WriteString("state")
	return err
}

type fakeGuest struct{ *story }

func (g fakeGuest) Status(context.Context) (*machine.StatusResponse, error) { return nil, nil }
func (g fakeGuest) Sync(context.Context) error                              { return g.step("guest sync") }
func (g fakeGuest) Freeze(context.Context) error                            { return g.step("freeze") }
func (g fakeGuest) Resume(context.Context, *machine.Identity, *machine.Trust) error {
	return g.step("thaw")
}
func (g fakeGuest) Transport() http.RoundTripper { return nil }
func (g fakeGuest) Session() context.Context     { return context.Background() }
func (g fakeGuest) Close() error                 { return nil }

type fakeDriver struct{ vmm.Driver }

func (fakeDriver) Version(context.Context) (vmm.Version, error) {
	return vmm.Version{Driver: "fake"}, nil
}

// take takes a snapshot of a fake machine whose files are in a real pool.
func take(t *testing.T, fail string) (*story, pool.Snapshot, error) {
	t.Helper()
	s := &story{}
	cfg := pooltest.Config(t)
	cfg.Before = func(op, path string) error {
		if strings.Contains(path, "staging") || strings.Contains(path, "snapshots") {
			return s.step("pool " + op)
		}
		return nil
	}
	p := pooltest.Open(t, cfg)
	pooltest.Import(t, p, "m1")
	s.steps, s.fail = nil, fail
	r := &live.Runner{Driver: fakeDriver{}, Pool: p, Clock: time.Now, Log: slog.New(slog.DiscardHandler)}
	snap, _, err := r.Take(t.Context(), &live.Machine{VM: fakeVM{s}, Guest: fakeGuest{s}}, "m1", pool.Meta{Name: "x"})
	return s, snap, err
}

// Everything of a snapshot is taken while the machine is stopped and its
// programs are frozen, and nothing in that window waits for the disk.
func TestOneStoppedMoment(t *testing.T) {
	s, _, err := take(t, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range s.between("stop", "continue") {
		if step != "save state" && step != "pool clone" {
			t.Errorf("while the machine is stopped: %s", step)
		}
	}
	if got := s.between("freeze", "thaw"); got[0] != "stop" || got[len(got)-1] != "continue" {
		t.Errorf("while programs are frozen: %q", got)
	}
	if slices.Index(s.steps, "guest sync") > slices.Index(s.steps, "freeze") {
		t.Errorf("guest synced too late: %q", s.steps)
	}
	if after := s.steps[slices.Index(s.steps, "thaw"):]; !slices.Contains(after, "pool sync") {
		t.Errorf("not synced after the machine went on: %q", s.steps)
	}
}

// Whatever fails, the machine runs on, its programs too, and there is no
// snapshot.
func TestFailedSnapshotLeavesTheMachineRunning(t *testing.T) {
	for _, fail := range []string{"guest sync", "freeze", "stop", "save state", "pool clone", "thaw", "pool sync", "pool rename"} {
		t.Run(fail, func(t *testing.T) {
			s, snap, err := take(t, fail)
			if err == nil {
				t.Fatalf("snapshot %s was taken: %q", snap.ID, s.steps)
			}
			if slices.Contains(s.steps, "stop") && fail != "stop" && !slices.Contains(s.steps, "continue") {
				t.Errorf("machine was not continued: %q", s.steps)
			}
			if i := slices.Index(s.steps, "freeze"); i >= 0 && !slices.Contains(s.steps[i:], "thaw") {
				t.Errorf("programs were not thawed: %q", s.steps)
			}
		})
	}
}

// Programs stand still before the machine does, and go on after it.
func TestStandstill(t *testing.T) {
	s := &story{}
	m := &live.Machine{VM: fakeVM{s}, Guest: fakeGuest{s}}
	r := &live.Runner{}
	if err := r.Suspend(t.Context(), m, live.Size{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Wake(t.Context(), m, live.Size{}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"freeze", "stop", "balloon", "continue", "thaw"}; !slices.Equal(s.steps, want) {
		t.Errorf("done is %q, want %q", s.steps, want)
	}
}

func TestFailedStandstillLeavesTheMachineRunning(t *testing.T) {
	for _, fail := range []string{"freeze", "stop"} {
		s := &story{fail: fail}
		err := (&live.Runner{}).Suspend(t.Context(), &live.Machine{VM: fakeVM{s}, Guest: fakeGuest{s}}, live.Size{})
		if end := s.steps[len(s.steps)-2:]; err == nil || !slices.Equal(end, []string{"continue", "thaw"}) {
			t.Errorf("%s fails: %v, done is %q", fail, err, s.steps)
		}
	}
}
