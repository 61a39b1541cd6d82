package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead/client"
	"bulkhead/internal/duplex"
	"bulkhead/internal/fault"
	"bulkhead/internal/guestd/account"
	"bulkhead/internal/guestd/process"
	"bulkhead/internal/server"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/e2b"
	"bulkhead/internal/server/entry"
	"bulkhead/internal/server/gate"
)

// world is what the real API shows in these tests: sandboxes that are all the
// same one machine, which is this host, in the person of a real process
// service.
type world struct {
	dir         string // holds home, the home of the guest's root, and console.log
	socket, url string
	asked       chan struct{} // gets one for each call that a frozen guest leaves unanswered

	mu        sync.Mutex // guards all below
	sandboxes map[string]client.Sandbox
	timelines map[string]client.Timeline
	templates map[string]client.Template
	made      int
}

// born is when everything in the world was made.
func born() time.Time { return time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC) }

// id returns the id of the nth thing that was made.
func id(n int) string { return strings.Repeat(string(rune('a'+n)), 20) }

// open makes a world in dir and serves it on a socket there until shut.
func open(dir string) (w *world, shut func() error, err error) {
	w = &world{
		dir: dir, socket: filepath.Join(dir, "s"), asked: make(chan struct{}, 16), sandboxes: map[string]client.Sandbox{}, timelines: map[string]client.Timeline{},
		templates: map[string]client.Template{"base": {
			ID: "base", Name: "base", CreatedAt: born(), CPUs: 1, MemoryMB: 512, DiskMB: 8192,
			Kernel: "6.1.0-44-cloud-amd64", Accel: "tcg", OwnBytes: 300 << 20,
		}},
	}
	home := filepath.Join(dir, "home")
	err = errors.Join(os.MkdirAll(home, 0o700),
		os.WriteFile(filepath.Join(dir, "passwd"), []byte("root:x:0:0::"+home+":/bin/sh\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "group"), []byte("root:x:0:\n"), 0o600))
	if err != nil {
		return nil, nil, err
	}
	l, err := entry.Unix(w.socket, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	programs := process.New(process.Options{Users: account.Users{Dir: dir}})
	guest := http.NewServeMux()
	guest.Handle(programs.Handler())
	agent := httptest.NewServer(guest)
	keys, err := auth.Open(context.Background(), ring{}, time.Now)
	if err != nil {
		return nil, nil, err
	}
	port, err := entry.Plain(context.Background(), "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	w.url = "http://" + port.Addr().String()
	people, err := openShells(dir)
	if err != nil {
		return nil, nil, err
	}
	s := server.New(server.Options{
		E2B: &e2b.API{
			Sandboxes: sandboxes{w, agent}, Power: power{sandboxes: sandboxes{w, agent}}, Snapshots: snapshots{world: w}, Templates: templates{world: w},
			Networks: anyNetwork{},
		},
		Keys: keyring{keys}, SSH: people,
		Sandboxes: sandboxes{w, agent}, Power: power{sandboxes: sandboxes{w, agent}}, Snapshots: snapshots{world: w}, Templates: templates{world: w},
		Events: w.events, EventsVerified: w.verified, Ports: w, Info: w.info, Log: slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(context.Background())
	wait := people.serve(ctx, s.Handler(func(next http.Handler) http.Handler { return next }))
	served := make(chan error, 1)
	go func() {
		served <- s.Serve(ctx, server.Door{Listener: l, Guard: server.Root}, server.Door{Listener: port, Guard: (&gate.Gate{Keys: keys}).Guard})
	}()
	return w, func() error {
		stop()
		err := errors.Join(<-served, wait())
		agent.CloseClientConnections()
		agent.Close()
		programs.Close()
		return err
	}, nil
}

// get returns a sandbox by name or id. The caller holds mu.
func (w *world) get(ref string) (client.Sandbox, error) {
	for _, s := range w.sandboxes {
		if s.Name == ref || s.ID == ref {
			return s, nil
		}
	}
	return client.Sandbox{}, fault.New(fault.NotFound, "there is no sandbox %q", ref).Hint("bulkhead ls")
}

func (w *world) info(context.Context) (client.Info, error) {
	return client.Info{Version: "9.9", Accel: "tcg", StateDir: w.dir, PID: 77}, nil
}

func (w *world) events(_ context.Context, q server.EventQuery) iter.Seq2[client.Event, error] {
	all := []client.Event{
		{Seq: 1, Time: born(), Type: "daemon.started", Fields: map[string]string{"version": "9.9"}},
		{Seq: 2, Time: born(), Type: "sandbox.created", SandboxID: id(0), Fields: map[string]string{"name": "otter", "a": "x\x1b[2J\ny"}},
	}
	return func(yield func(client.Event, error) bool) {
		for _, e := range all {
			wanted := e.Seq > q.Since && (q.SandboxID == "" || q.SandboxID == e.SandboxID) && strings.HasPrefix(e.Type, q.Type)
			if wanted && !yield(e, nil) {
				return
			}
		}
	}
}

func (w *world) verified(context.Context) (client.EventsReport, error) {
	return client.EventsReport{First: 1, Last: 2, Hash: "abcd"}, nil
}

// DialPort implements server.Ports: port 7 of every sandbox repeats what it was
// told once it was told all.
func (w *world) DialPort(_ context.Context, ref string, port uint16) (duplex.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.get(ref); err != nil {
		return nil, err
	}
	if port != 7 {
		return nil, fault.New(fault.Unavailable, "nothing listens on port %d", port)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	outside, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	inside, err := l.Accept()
	if err != nil {
		return nil, err
	}
	go func() {
		defer inside.Close()
		if all, err := io.ReadAll(inside); err == nil {
			fmt.Fprintf(inside, "told %s", all)
		}
	}()
	return outside.(*net.TCPConn), nil
}

// power starts sandboxes; nothing else is asked for.
type power struct {
	server.Power
	beyond
	sandboxes
}

// beyond is what the command line does not ask for.
type beyond struct{ e2b.Power }

// anyNetwork is content with every configuration.
type anyNetwork struct{ e2b.Networks }

func (anyNetwork) Check(*client.Network, *bool) error { return nil }

func (p power) Start(ctx context.Context, ref string) (client.Sandbox, error) {
	return p.sandboxes.Start(ctx, ref)
}

type sandboxes struct {
	*world
	agent *httptest.Server
}

func (w sandboxes) Resolve(ctx context.Context, ref string) (string, error) {
	s, err := w.Get(ctx, ref)
	return s.ID, err
}

func (w sandboxes) List(context.Context) ([]client.Sandbox, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.SortedFunc(maps.Values(w.sandboxes), func(a, b client.Sandbox) int { return strings.Compare(a.ID, b.ID) }), nil
}

func (w sandboxes) Create(_ context.Context, req client.CreateRequest) (client.Sandbox, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.templates[req.TemplateID]; !ok {
		return client.Sandbox{}, fault.New(fault.NotFound, "there is no template %q", req.TemplateID).Hint("bulkhead template ls")
	}
	if _, err := w.get(req.Name); err == nil {
		return client.Sandbox{}, fault.New(fault.Exists, "there is a sandbox %q already", req.Name)
	}
	s := client.Sandbox{
		ID: id(w.made), Name: req.Name, TemplateID: req.TemplateID, State: client.StateRunning,
		CreatedAt: born(), StartedAt: born(), CPUs: 1, MemoryMB: 512, DiskMB: 8192, Metadata: req.Metadata, Accel: "tcg",
		VMM: &client.VMM{Driver: "qemu", Version: "7.2", PID: 4242},
	}
	w.made++
	switch s.Name {
	case "":
		s.Name = "made-up"
		if req.TemplateID == "sticky" {
			s.Name = "sticky"
		}
	case "tiny":
		s.DiskMB, s.MemoryMB = 1, 0
	case "wreck":
		s.State, s.Reason, s.Hint, s.VMM = client.StateCrashed, "its VMM was killed (signal 9)", "bulkhead start wreck", nil
		s.ConsoleTail = "Kernel panic\x1b[2J\nnot syncing\n"
	}
	w.sandboxes[s.ID] = s
	w.timelines[s.ID] = client.Timeline{SandboxID: s.ID, Snapshots: []client.Snapshot{}}
	return s, nil
}

func (w sandboxes) Get(_ context.Context, ref string) (client.Sandbox, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.get(ref)
}

func (w sandboxes) Start(_ context.Context, ref string) (client.Sandbox, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.get(ref)
	if err == nil && s.State == client.StateRunning {
		err = fault.New(fault.WrongState, "sandbox %s is running", s.Name)
	}
	if err != nil {
		return client.Sandbox{}, err
	}
	s.State, s.Reason, s.Hint, s.ConsoleTail = client.StateRunning, "", "", ""
	w.sandboxes[s.ID] = s
	return s, nil
}

func (w sandboxes) Remove(_ context.Context, ref string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.get(ref)
	if err == nil && s.Name == "sticky" {
		err = fault.New(fault.Timeout, "sandbox sticky does not end")
	}
	delete(w.sandboxes, s.ID)
	return err
}

func (w sandboxes) Console(ctx context.Context, ref string) (string, error) {
	_, err := w.Get(ctx, ref)
	return w.dir, err
}

func (w sandboxes) Transport(ctx context.Context, ref string) (http.RoundTripper, error) {
	s, err := w.Get(ctx, ref)
	if err == nil && s.State != client.StateRunning {
		err = fault.New(fault.WrongState, "sandbox %s is %s", s.Name, s.State).Hint("%s", s.Hint)
	}
	if err != nil {
		return nil, err
	}
	return toAgent{w, s.Name == "frozen"}, nil
}

// toAgent sends every request to the one agent. A frozen guest starts programs
// and answers nothing else.
type toAgent struct {
	sandboxes
	frozen bool
}

func (t toAgent) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.frozen && !strings.HasSuffix(r.URL.Path, "/Start") {
		t.asked <- struct{}{}
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	u, err := url.Parse(t.agent.URL)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL.Host = u.Host
	return t.agent.Client().Transport.RoundTrip(r)
}

type snapshots struct {
	e2b.Snapshots
	*world
}

func (w snapshots) Take(_ context.Context, ref string, req client.SnapshotRequest) (client.Snapshot, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.get(ref)
	if err == nil && req.Name == "huge" {
		err = fault.New(fault.Exhausted, "the pool has no room").Hint("bulkhead rm a sandbox, or enlarge the pool")
	}
	if err != nil {
		return client.Snapshot{}, err
	}
	t := w.timelines[s.ID]
	n := client.Snapshot{
		ID: id(w.made), Name: req.Name, SandboxID: s.ID, Parent: t.Head, CreatedAt: born(),
		Cause: "manual", StoppedMS: 12.34, OwnBytes: 1 << 20,
	}
	w.made++
	t.Snapshots, t.Head = append(t.Snapshots, n), n.ID
	w.timelines[s.ID] = t
	return n, nil
}

// find returns the index of a snapshot. The caller holds mu.
func (w *world) find(ref, snapshot string) (client.Timeline, int, error) {
	s, err := w.get(ref)
	if err != nil {
		return client.Timeline{}, 0, err
	}
	t := w.timelines[s.ID]
	i := slices.IndexFunc(t.Snapshots, func(n client.Snapshot) bool { return n.ID == snapshot || n.Name == snapshot })
	if i < 0 {
		return t, 0, fault.New(fault.NotFound, "snapshot %s is not in the timeline of %s", snapshot, s.Name).
			Hint("bulkhead timeline %s", s.Name)
	}
	return t, i, nil
}

func (w snapshots) Diff(context.Context, string, string, string) iter.Seq2[client.FileChange, error] {
	return func(func(client.FileChange, error) bool) {}
}

func (w snapshots) Remove(_ context.Context, ref, snapshot string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, i, err := w.find(ref, snapshot)
	if err != nil {
		return err
	}
	t.Snapshots = slices.Delete(t.Snapshots, i, i+1)
	w.timelines[t.SandboxID] = t
	return nil
}

func (w snapshots) Timeline(_ context.Context, ref string) (client.Timeline, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.get(ref)
	return w.timelines[s.ID], err
}

func (w snapshots) Rollback(_ context.Context, ref string, req client.RollbackRequest) (client.RollbackResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, i, err := w.find(ref, req.Snapshot)
	if err != nil {
		return client.RollbackResult{}, err
	}
	t.Head = t.Snapshots[i].ID
	w.timelines[t.SandboxID] = t
	return client.RollbackResult{Sandbox: w.sandboxes[t.SandboxID], Snapshot: t.Snapshots[i], DurationMS: 98.7}, nil
}

type templates struct {
	e2b.Templates
	*world
}

func (w templates) List(context.Context) ([]client.Template, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.SortedFunc(maps.Values(w.templates), func(a, b client.Template) int { return strings.Compare(a.Name, b.Name) }), nil
}

func (w templates) Build(ctx context.Context, req client.BuildRequest, progress func(client.BuildEvent)) (client.Template, error) {
	progress(client.BuildEvent{Step: "install Debian packages", Number: 1, Of: 2})
	progress(client.BuildEvent{Log: "Get:1 ..."})
	progress(client.BuildEvent{Step: "install Debian packages", Number: 1, Of: 2, Done: true, ElapsedMS: 1500})
	if req.Name == "slow" {
		<-ctx.Done()
		return client.Template{}, ctx.Err()
	}
	if req.FromImage == "ghcr.io/us/ours:1" && (req.Registry == nil || *req.Registry != client.Registry{Type: "registry", Username: "me", Password: "open-sesame"}) {
		return client.Template{}, fault.New(fault.Denied, "the registry refuses it").Hint("check user and password")
	}
	if slices.Contains(req.Packages, "no-such") {
		return client.Template{}, fault.New(fault.Invalid, "there is no package no-such").Hint("apt-cache search no-such")
	}
	t := client.Template{
		ID: req.Name, Name: req.Name, CreatedAt: born(), CPUs: 64, MemoryMB: 1023 << 10, DiskMB: 1023 << 10,
		Kernel: "6.1.0-44-cloud-amd64", Accel: "tcg", OwnBytes: 1023 << 30, Sandboxes: 1000,
	}
	if req.MemoryMB != nil {
		t.MemoryMB = *req.MemoryMB
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.templates[t.Name] = t
	return t, nil
}

func (w templates) SetSchedule(_ context.Context, name string, s client.Schedule) (client.Template, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.templates[name]
	t.Schedule = &s
	w.templates[name] = t
	return t, nil
}

func (w templates) Find(_ context.Context, names ...string) (client.Template, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.templates[names[0]]
	if !ok {
		return t, fault.New(fault.NotFound, "template not found")
	}
	return t, nil
}

func (w templates) Remove(_ context.Context, name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.templates[name]; !ok {
		return fault.New(fault.NotFound, "there is no template %q", name).Hint("bulkhead template ls")
	}
	delete(w.templates, name)
	return nil
}
