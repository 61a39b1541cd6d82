package sandbox_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/pool/pooltest"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/capacity"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/vmm"
	"bulkhead/proto/machine"
)

func TestMain(m *testing.M) { pooltest.Main(m) }

// vm is a VMM that runs until it is killed.
type vm struct {
	vmm.Machine
	kill sync.Once
	done chan struct{}
	// goesOn is closed when it may be continued; nil for at once.
	goesOn chan struct{}
}

func (v *vm) PID() int                                { return 1 }
func (v *vm) Guest(context.Context) (net.Conn, error) { return nil, nil }
func (v *vm) Continue(context.Context) error {
	if v.goesOn != nil {
		<-v.goesOn
	}
	return nil
}
func (v *vm) Stop(context.Context) error         { return errors.New("this machine is not to be stopped") }
func (v *vm) Balloon(context.Context, int) error { return nil }
func (v *vm) Done() <-chan struct{}              { return v.done }
func (v *vm) Exit() vmm.Exit                     { return vmm.Exit{Reason: "killed"} }
func (v *vm) Kill(context.Context) error {
	v.kill.Do(func() { close(v.done) })
	return nil
}

// driver has one machine, which runs already.
type driver struct {
	vmm.Driver
	vm *vm
}

func (d driver) Version(context.Context) (vmm.Version, error) { return vmm.Version{}, nil }
func (d driver) Reap(context.Context, string) error           { return nil }
func (d driver) Attach(context.Context, vmm.Spec) (vmm.Machine, error) {
	return d.vm, nil
}

// unconnected is a network of machines that have none.
type unconnected struct{}

func (unconnected) Open(context.Context, string) (live.Link, error)   { return nil, fs.ErrNotExist }
func (unconnected) Attach(context.Context, string) (live.Link, error) { return nil, fs.ErrNotExist }
func (unconnected) Unlink(context.Context, string) error              { return nil }
func (unconnected) Forget(context.Context, string) error              { return nil }
func (unconnected) Isolate(context.Context, string) error             { return nil }
func (unconnected) Inherit(context.Context, string, string) error     { return nil }
func (unconnected) Renew(context.Context, string) error               { return nil }

// silent is an agent that goes silent with a call; calls after it wait, too.
type silent struct {
	call    string
	reached chan struct{} // closed with that call
	once    sync.Once
	goOn    func() // has the VMM continued that was held
}

// session is one with a silent agent.
type session struct {
	*silent
	life context.Context
	end  context.CancelFunc
}

func (s *silent) connect() live.Guest {
	life, end := context.WithCancel(context.Background())
	return session{s, life, end}
}

func (s session) on(ctx context.Context, call string) error {
	if call == s.call {
		s.once.Do(func() { close(s.reached) })
	}
	select {
	case <-s.reached:
	default:
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.life.Done():
		return errors.New("session is closed")
	}
}

func (s session) Status(context.Context) (*machine.StatusResponse, error) { return nil, nil }
func (s session) Sync(ctx context.Context) error                          { return s.on(ctx, "sync") }
func (s session) Freeze(ctx context.Context) error                        { return s.on(ctx, "freeze") }
func (s session) Resume(ctx context.Context, _ *machine.Identity, _ *machine.Trust) error {
	return s.on(ctx, "resume")
}
func (s session) Transport() http.RoundTripper { return s }
func (s session) Session() context.Context     { return s.life }
func (s session) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := s.on(r.Context(), "request"); err != nil {
		return nil, err
	}
	return &http.Response{Body: http.NoBody}, nil
}
func (s session) Close() error {
	s.end()
	return nil
}

type store []sandbox.Record

func (s store) List(context.Context) ([]sandbox.Record, error) { return s, nil }
func (store) Save(context.Context, sandbox.Record) error       { return nil }
func (store) Delete(context.Context, sandbox.ID) error         { return nil }

// nothing are parts that have nothing to do.
type nothing struct{ sandbox.Templates }

func (nothing) Sweep(context.Context, []pool.MachineID) error             { return nil }
func (nothing) Append(context.Context, string, string, map[string]string) {}
func (nothing) Begin(context.Context, string, string) error               { return nil }
func (nothing) End(context.Context, string) error                         { return nil }
func (nothing) Owners(context.Context) ([]string, error)                  { return nil, nil }

// withSilent runs do in a bubble of its own time, on a manager with one
// sandbox, web, whose agent goes silent with a call. "connect" is the first.
func withSilent(t *testing.T, call string, do func(*testing.T, *sandbox.Manager, *silent)) {
	t.Helper()
	withSandbox(t, lifecycle.Running, call, do)
}

// withSandbox is withSilent for one that an earlier daemon has left in a state.
func withSandbox(t *testing.T, state lifecycle.State, call string, do func(*testing.T, *sandbox.Manager, *silent)) {
	t.Helper()
	rec := sandbox.Record{ID: "i1", Name: "web", State: state, Size: live.Size{CPUs: 1, MemoryMiB: 4}}
	left{call: call}.on(t, rec, do)
}

// left is what an earlier daemon has left.
type left struct {
	// call is the one with which the agent goes silent.
	call string
	// held means that the VMM is not continued before the agent's goOn.
	held bool
	// storing is asked before a record is stored, unless it is nil.
	storing func(sandbox.Record)
	// before makes the pool what it is.
	before func(*testing.T, *pool.Pool)
	limits capacity.Limits
	// isolating is asked before a machine is made that talks to nobody, unless it
	// is nil.
	isolating func()
}

// network is unconnected, and asks before it isolates.
type network struct {
	unconnected
	isolating func()
}

func (n network) Isolate(context.Context, string) error {
	if n.isolating != nil {
		n.isolating()
	}
	return nil
}

// storing keeps a record in no store.
type storing struct {
	store
	ask func(sandbox.Record)
}

func (s storing) Save(_ context.Context, r sandbox.Record) error {
	if s.ask != nil {
		s.ask(r)
	}
	return nil
}

// on calls do with a manager of one sandbox.
func (l left) on(t *testing.T, rec sandbox.Record, do func(*testing.T, *sandbox.Manager, *silent)) {
	t.Helper()
	p := pooltest.New(t)
	pooltest.Import(t, p, "i1")
	if l.before != nil {
		l.before(t, p)
	}
	runDir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		agent := &silent{call: l.call, reached: make(chan struct{})}
		machine := &vm{done: make(chan struct{})}
		if l.held {
			machine.goesOn = make(chan struct{})
			agent.goOn = func() { close(machine.goesOn) }
		}
		log := slog.New(slog.NewTextHandler(t.Output(), nil))
		m := sandbox.New(sandbox.Parts{
			Machines: &live.Runner{
				Driver: driver{vm: machine}, Pool: p, Journal: nothing{},
				Network: network{isolating: l.isolating},
				RunDir:  runDir, Clock: time.Now, Log: log,
				Connect: func(ctx context.Context, _ net.Conn) (live.Guest, error) {
					s := agent.connect().(session)
					return s, s.on(ctx, "connect")
				},
			},
			Templates: nothing{}, Events: nothing{}, Limits: l.limits, Clock: time.Now, Log: log,
			Store: storing{store{rec}, l.storing},
		})
		if err := m.Recover(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		do(t, m, agent)
		m.Close(t.Context())
	})
}

func request(ctx context.Context, m *sandbox.Manager) error {
	way, err := m.Transport(ctx, "web")
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://guest/", nil)
	if err != nil {
		return err
	}
	resp, err := way.RoundTrip(r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func snapshot(ctx context.Context, m *sandbox.Manager) error {
	_, err := m.Snapshot(ctx, "web", "")
	return err
}

// An agent that does not answer costs an error that says so, whenever it goes
// silent. The machine runs on, and can be removed.
func TestSilentAgent(t *testing.T) {
	for _, tt := range []struct {
		name, call string
		do         func(context.Context, *sandbox.Manager) error
		want       string
	}{
		{"a request to one that begins no session", "connect", request, "reach sandbox web: the agent inside does not answer"},
		{"a request to one that makes nothing right", "resume", request, "reach sandbox web: the agent inside does not answer"},
		{"a request to one that answers none", "request", request, "reach sandbox web: the agent inside does not answer"},
		{"a snapshot of one that begins no session", "connect", snapshot, "reach sandbox web: the agent inside does not answer"},
		{"a snapshot of one that does not sync", "sync", snapshot, "snapshot sandbox web: sync guest: the agent inside does not answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			withSilent(t, tt.call, func(t *testing.T, m *sandbox.Manager, _ *silent) {
				err := tt.do(t.Context(), m)
				if err == nil || err.Error() != tt.want {
					t.Errorf("error = %v, want %s", err, tt.want)
				}
				if !fault.Is(err, fault.Unavailable) || fault.HintOf(err) != "bulkhead rm web" {
					t.Errorf("a fault of kind %s with hint %q", fault.KindOf(err), fault.HintOf(err))
				}
				if s, err := m.Get("web"); err != nil || s.State != lifecycle.Running || s.PID == 0 {
					t.Errorf("it is %+v, %v, want it running", s, err)
				}
				if err := m.Remove(t.Context(), "web"); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A removal does not wait for an agent, even if somebody else does.
func TestSilentAgentIsRemovedAtOnce(t *testing.T) {
	for _, call := range []string{"connect", "resume", "sync", "freeze"} {
		t.Run("during "+call, func(t *testing.T) {
			withSilent(t, call, func(t *testing.T, m *sandbox.Manager, agent *silent) {
				taken := make(chan error, 1)
				go func() { taken <- snapshot(t.Context(), m) }()
				<-agent.reached
				ctx, cancel := context.WithTimeout(t.Context(), time.Second) // an agent gets more
				defer cancel()
				if err := m.Remove(ctx, "web"); err != nil {
					t.Error(err)
				}
				// Whether it had begun by then or not.
				if err := <-taken; !fault.Is(err, fault.WrongState) && !fault.Is(err, fault.NotFound) {
					t.Errorf("error = %v, want that the sandbox goes or is gone", err)
				}
				if _, err := m.Get("web"); !fault.Is(err, fault.NotFound) {
					t.Errorf("error = %v, want that it is gone", err)
				}
			})
		})
	}
}
