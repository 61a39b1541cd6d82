package server_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/duplex"
	"bulkhead/internal/fault"
	"bulkhead/internal/server"
	"bulkhead/internal/server/e2b"
	"bulkhead/internal/server/entry"
	"bulkhead/internal/server/ingress"
	"bulkhead/internal/server/quota"
)

// fakeSandboxes answers with what a test puts into its fields.
type fakeSandboxes struct {
	e2b.Power // nil: the rest is not asked for
	list      func(context.Context) ([]client.Sandbox, error)
	create    func(context.Context, client.CreateRequest) (client.Sandbox, error)
	get       func(context.Context, string) (client.Sandbox, error)
	start     func(context.Context, string) (client.Sandbox, error)
	restart   func(context.Context, string) (client.Sandbox, error)
	pause     func(context.Context, string, client.PauseRequest) (client.Sandbox, error)
	resume    func(context.Context, string, client.ResumeRequest) (client.Sandbox, error)
	schedule  func(context.Context, string, client.Schedule) (client.Sandbox, error)
	fork      func(context.Context, string, client.ForkRequest) ([]client.Sandbox, []error, error)
	remove    func(context.Context, string) error
	console   func(context.Context, string) (string, error)
	resolve   func(context.Context, string) (string, error)
	transport func(context.Context, string) (http.RoundTripper, error)
}

// Resolve finds what is asked for unless a test says otherwise.
func (f fakeSandboxes) Resolve(ctx context.Context, ref string) (string, error) {
	if f.resolve == nil {
		return ref, nil
	}
	return f.resolve(ctx, ref)
}
func (f fakeSandboxes) List(ctx context.Context) ([]client.Sandbox, error) { return f.list(ctx) }
func (f fakeSandboxes) Create(ctx context.Context, r client.CreateRequest) (client.Sandbox, error) {
	return f.create(ctx, r)
}
func (f fakeSandboxes) Get(ctx context.Context, ref string) (client.Sandbox, error) {
	return f.get(ctx, ref)
}
func (f fakeSandboxes) Start(ctx context.Context, ref string) (client.Sandbox, error) {
	return f.start(ctx, ref)
}

func (f fakeSandboxes) Restart(ctx context.Context, ref string) (client.Sandbox, error) {
	return f.restart(ctx, ref)
}
func (f fakeSandboxes) Pause(ctx context.Context, ref string, r client.PauseRequest) (client.Sandbox, error) {
	return f.pause(ctx, ref, r)
}
func (f fakeSandboxes) Resume(ctx context.Context, ref string, r client.ResumeRequest) (client.Sandbox, error) {
	return f.resume(ctx, ref, r)
}
func (f fakeSandboxes) SetSchedule(ctx context.Context, ref string, r client.Schedule) (client.Sandbox, error) {
	return f.schedule(ctx, ref, r)
}
func (f fakeSandboxes) Fork(ctx context.Context, ref string, r client.ForkRequest) ([]client.Sandbox, []error, error) {
	return f.fork(ctx, ref, r)
}
func (f fakeSandboxes) Remove(ctx context.Context, ref string) error { return f.remove(ctx, ref) }
func (f fakeSandboxes) Console(ctx context.Context, ref string) (string, error) {
	return f.console(ctx, ref)
}
func (f fakeSandboxes) Transport(ctx context.Context, ref string) (http.RoundTripper, error) {
	return f.transport(ctx, ref)
}

type fakeSnapshots struct {
	e2b.Snapshots // nil: the rest is not asked for
	take          func(context.Context, string, client.SnapshotRequest) (client.Snapshot, error)
	remove        func(context.Context, string, string) error
	timeline      func(context.Context, string) (client.Timeline, error)
	rollback      func(context.Context, string, client.RollbackRequest) (client.RollbackResult, error)
	diff          func(ref, from, to string) iter.Seq2[client.FileChange, error]
}

func (f fakeSnapshots) Diff(_ context.Context, ref, from, to string) iter.Seq2[client.FileChange, error] {
	return f.diff(ref, from, to)
}

func (f fakeSnapshots) Take(ctx context.Context, ref string, r client.SnapshotRequest) (client.Snapshot, error) {
	return f.take(ctx, ref, r)
}
func (f fakeSnapshots) Remove(ctx context.Context, ref, snap string) error {
	return f.remove(ctx, ref, snap)
}
func (f fakeSnapshots) Timeline(ctx context.Context, ref string) (client.Timeline, error) {
	return f.timeline(ctx, ref)
}
func (f fakeSnapshots) Rollback(ctx context.Context, ref string, r client.RollbackRequest) (client.RollbackResult, error) {
	return f.rollback(ctx, ref, r)
}

type fakeTemplates struct {
	e2b.Templates // nil: the rest is not asked for
	list          func(context.Context) ([]client.Template, error)
	build         func(context.Context, client.BuildRequest, func(client.BuildEvent)) (client.Template, error)
	remove        func(context.Context, string) error
}

func (f fakeTemplates) List(ctx context.Context) ([]client.Template, error) { return f.list(ctx) }
func (f fakeTemplates) Build(ctx context.Context, r client.BuildRequest, p func(client.BuildEvent)) (client.Template, error) {
	return f.build(ctx, r, p)
}
func (fakeTemplates) SetSchedule(context.Context, string, client.Schedule) (client.Template, error) {
	return client.Template{}, nil
}
func (f fakeTemplates) Find(ctx context.Context, names ...string) (client.Template, error) {
	return client.Template{Name: names[0], Public: !strings.Contains(names[0], "/")}, nil
}
func (f fakeTemplates) Remove(ctx context.Context, name string) error { return f.remove(ctx, name) }

// anyNetwork is content with every configuration.
type anyNetwork struct{ e2b.Networks }

func (anyNetwork) Check(*client.Network, *bool) error { return nil }

// fakePorts has nothing that listens unless a test says otherwise.
type fakePorts struct {
	dialPort func(context.Context, string, uint16) (duplex.Conn, error)
	rules    func(context.Context, string) (ingress.Rules, error)
	ids      []string
}

func (f fakePorts) DialPort(ctx context.Context, id string, port uint16) (duplex.Conn, error) {
	if f.dialPort == nil {
		return nil, fault.New(fault.Unavailable, "nothing listens on port %d of %s", port, id)
	}
	return f.dialPort(ctx, id, port)
}
func (f fakePorts) Rules(ctx context.Context, id string) (ingress.Rules, error) {
	if f.rules == nil {
		return ingress.Rules{}, nil
	}
	return f.rules(ctx, id)
}
func (f fakePorts) IDs(context.Context) []string { return f.ids }

// fake is a daemon whose parts are a test's.
type fake struct {
	fakeSandboxes
	fakeSnapshots
	fakeTemplates
	fakePorts
	quota *quota.Quota
	// impatient has bodies arrive at once.
	impatient bool
	// hurried has headers arrive at once.
	hurried bool
	// strangers bounds their requests into guests; 0 for the usual bound.
	strangers int64
	events    func(context.Context, server.EventQuery) iter.Seq2[client.Event, error]
	info      func(context.Context) (client.Info, error)
}

// e2b is the part of it that clients of E2B know.
func (f fake) e2b() *e2b.API {
	return &e2b.API{
		Sandboxes: f.fakeSandboxes, Power: f.fakeSandboxes, Snapshots: f.fakeSnapshots, Templates: f.fakeTemplates,
		Networks: anyNetwork{},
	}
}

// api is a running server and a client of its socket.
type api struct {
	*http.Client
	socket string
	log    *syncBuffer
	// stop asks the server to end; done gives what Serve returned.
	stop context.CancelFunc
	done <-chan error
}

// syncBuffer collects a log from several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// socketPath returns a path short enough for a socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "s")
}

// start serves f on a real socket until the test ends.
func start(t *testing.T, f fake) *api {
	t.Helper()
	a := &api{socket: socketPath(t), log: &syncBuffer{}}
	s := server.New(server.Options{
		E2B:       f.e2b(),
		Sandboxes: f.fakeSandboxes, Power: f.fakeSandboxes, Snapshots: f.fakeSnapshots, Templates: f.fakeTemplates,
		Ports: f.fakePorts, Ingress: f.fakePorts, Events: f.events, Info: f.info,
		Log: slog.New(slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	l, err := entry.Unix(a.socket, slog.New(slog.NewTextHandler(a.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", a.socket)
	}}
	a.Client = &http.Client{Transport: transport}
	ctx, stop := context.WithCancel(context.Background())
	done, ended := make(chan error, 1), make(chan struct{})
	go func() {
		done <- s.Serve(ctx, server.Door{Listener: l, Guard: server.Root})
		close(ended)
	}()
	a.stop, a.done = stop, done
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		<-ended
	})
	return a
}

var errBoom = errors.New("boom")
