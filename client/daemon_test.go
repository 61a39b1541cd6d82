package client_test

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/guestd/account"
	"bulkhead/internal/guestd/process"
	"bulkhead/internal/server"
	"bulkhead/internal/server/e2b"
	"bulkhead/internal/server/entry"
)

// TestMain makes the test binary what the guest's agent is: the stand-in of
// programs that cannot be executed.
func TestMain(m *testing.M) {
	process.StandIn()
	os.Exit(m.Run())
}

// socketPath returns a path that is short enough for a unix socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bhc")
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

// serve runs the real API over parts of the test's until the test ends.
func serve(t *testing.T, parts server.Options) *client.Client {
	t.Helper()
	socket := socketPath(t)
	l, err := entry.Unix(socket, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if parts.Sandboxes == nil {
		parts.Sandboxes = sandboxes{}
	}
	if parts.Templates == nil {
		parts.Templates = templates{}
	}
	parts.Log, parts.E2B = slog.New(slog.DiscardHandler), &e2b.API{
		Networks: anyNetwork{},
	}
	// Those that the test does not lend are not asked for.
	parts.E2B.Sandboxes, _ = parts.Sandboxes.(e2b.Sandboxes)
	parts.E2B.Power, _ = parts.Power.(e2b.Power)
	parts.E2B.Snapshots, _ = parts.Snapshots.(e2b.Snapshots)
	parts.E2B.Templates, _ = parts.Templates.(e2b.Templates)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.New(parts).Serve(ctx, server.Door{Listener: l, Guard: server.Root}) }()
	c := client.New(socket)
	t.Cleanup(func() {
		c.Close()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c
}

// listen answers every request on a socket with handler: a daemon of another
// kind than ours.
func listen(t *testing.T, handler http.HandlerFunc) *client.Client {
	t.Helper()
	l, err := net.Listen("unix", socketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(handler)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	c := client.New(l.Addr().String())
	t.Cleanup(func() {
		c.Close()
		s.Close()
	})
	return c
}

// anyNetwork is content with every configuration.
type anyNetwork struct{ e2b.Networks }

func (anyNetwork) Check(*client.Network, *bool) error { return nil }

// sandboxes has what a test puts into its fields.
type sandboxes struct {
	server.Sandboxes // nil: the rest is not asked for
	list             func() ([]client.Sandbox, error)
	create           func(context.Context, client.CreateRequest) (client.Sandbox, error)
	get              func(ref string) (client.Sandbox, error)
	resolve          func(ref string) (string, error)
	remove           func(ref string) error
	console          func(ref string) (string, error)
	transport        func(ref string) (http.RoundTripper, error)
}

// Resolve finds whatever is asked for unless a test says otherwise.
func (s sandboxes) Resolve(_ context.Context, ref string) (string, error) {
	if s.resolve == nil {
		return ref, nil
	}
	return s.resolve(ref)
}

func (s sandboxes) List(context.Context) ([]client.Sandbox, error) { return s.list() }
func (s sandboxes) Create(ctx context.Context, r client.CreateRequest) (client.Sandbox, error) {
	return s.create(ctx, r)
}
func (s sandboxes) Get(_ context.Context, ref string) (client.Sandbox, error) { return s.get(ref) }
func (s sandboxes) Remove(_ context.Context, ref string) error                { return s.remove(ref) }
func (s sandboxes) Console(_ context.Context, ref string) (string, error)     { return s.console(ref) }
func (s sandboxes) Transport(_ context.Context, ref string) (http.RoundTripper, error) {
	return s.transport(ref)
}

// power writes down what it is asked, and answers with box.
type power struct {
	e2b.Power // nil: the rest is not asked for
	ask       func(format string, args ...any)
	box       client.Sandbox
}

func (p power) Start(_ context.Context, ref string) (client.Sandbox, error) {
	p.ask("start %s", ref)
	return p.box, nil
}

func (p power) Restart(_ context.Context, ref string) (client.Sandbox, error) {
	p.ask("restart %s", ref)
	return p.box, nil
}
func (p power) Pause(_ context.Context, ref string, r client.PauseRequest) (client.Sandbox, error) {
	p.ask("pause %s %v", ref, r.Stay)
	return p.box, nil
}
func (p power) Resume(_ context.Context, ref string, _ client.ResumeRequest) (client.Sandbox, error) {
	p.ask("resume %s", ref)
	return p.box, nil
}
func (p power) SetSchedule(_ context.Context, ref string, r client.Schedule) (client.Sandbox, error) {
	p.ask("schedule %s %d %d", ref, r.EverySeconds, r.IdleSeconds)
	return p.box, nil
}
func (p power) Fork(_ context.Context, ref string, r client.ForkRequest) ([]client.Sandbox, []error, error) {
	p.ask("fork %s %s %d %s", ref, r.Snapshot, r.Count, r.Name)
	return []client.Sandbox{p.box}, []error{nil}, nil
}

type snapshots struct {
	e2b.Snapshots // nil: the rest is not asked for
	take          func(ref string, r client.SnapshotRequest) (client.Snapshot, error)
	remove        func(ref, snapshot string) error
	timeline      func(ref string) (client.Timeline, error)
	rollback      func(ref string, r client.RollbackRequest) (client.RollbackResult, error)
	diff          func(ref, from, to string) iter.Seq2[client.FileChange, error]
}

func (s snapshots) Diff(_ context.Context, ref, from, to string) iter.Seq2[client.FileChange, error] {
	return s.diff(ref, from, to)
}

func (s snapshots) Take(_ context.Context, ref string, r client.SnapshotRequest) (client.Snapshot, error) {
	return s.take(ref, r)
}
func (s snapshots) Remove(_ context.Context, ref, snapshot string) error {
	return s.remove(ref, snapshot)
}
func (s snapshots) Timeline(_ context.Context, ref string) (client.Timeline, error) {
	return s.timeline(ref)
}
func (s snapshots) Rollback(_ context.Context, ref string, r client.RollbackRequest) (client.RollbackResult, error) {
	return s.rollback(ref, r)
}

type templates struct {
	e2b.Templates // nil: the rest is not asked for
	list          func() ([]client.Template, error)
	build         func(context.Context, client.BuildRequest, func(client.BuildEvent)) (client.Template, error)
	remove        func(name string) error
	plan          func(name string, r client.Schedule) (client.Template, error)
}

func (s templates) SetSchedule(_ context.Context, name string, r client.Schedule) (client.Template, error) {
	return s.plan(name, r)
}
func (s templates) List(context.Context) ([]client.Template, error) { return s.list() }
func (s templates) Build(ctx context.Context, r client.BuildRequest, p func(client.BuildEvent)) (client.Template, error) {
	return s.build(ctx, r, p)
}
func (s templates) Find(_ context.Context, names ...string) (client.Template, error) {
	return client.Template{Name: names[0]}, nil
}
func (s templates) Remove(_ context.Context, name string) error { return s.remove(name) }

// eventLog answers every query with the same events and then, if the query
// follows, waits for its end.
func eventLog(asked *server.EventQuery, all ...client.Event) server.Events {
	return func(ctx context.Context, q server.EventQuery) iter.Seq2[client.Event, error] {
		*asked = q
		return func(yield func(client.Event, error) bool) {
			for _, e := range all {
				if !yield(e, nil) {
					return
				}
			}
			if q.Follow {
				<-ctx.Done()
			}
		}
	}
}

// inGuest returns the parts of a daemon whose only sandbox, otter, has agent
// for an agent.
func inGuest(t *testing.T, agent http.Handler) server.Options {
	t.Helper()
	s := httptest.NewServer(agent)
	addr := s.Listener.Addr().String()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		s.Close()
	})
	return server.Options{Sandboxes: sandboxes{
		transport: func(ref string) (http.RoundTripper, error) {
			if ref != "otter" {
				return nil, notFound(ref)
			}
			return transport, nil
		},
	}}
}

// realGuest returns a client of a daemon whose sandbox otter runs programs by
// the agent's real process service, here. It has the users root and tester.
func realGuest(t *testing.T) *client.Client {
	t.Helper()
	etc := t.TempDir()
	const passwd = "root:x:0:0::/root:/bin/sh\ntester:x:65534:65534::/tmp:/bin/sh\n"
	if err := os.WriteFile(filepath.Join(etc, "passwd"), []byte(passwd), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := process.New(process.Options{Users: account.Users{Dir: etc}})
	mux := http.NewServeMux()
	mux.Handle(agent.Handler())
	parts := inGuest(t, mux)
	t.Cleanup(agent.Close) // before the server: its streams end with the programs
	return serve(t, parts)
}

func readAll(t *testing.T, r io.ReadCloser) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return string(b)
}
