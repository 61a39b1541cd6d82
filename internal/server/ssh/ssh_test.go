package ssh_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/client"
	server "bulkhead/internal/server/ssh"
	"bulkhead/test/leak"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

// box is the id of the one sandbox, otter, of the one team, crew.
const box = "iabcdefghij0123456789"

// errGone is what the API says of a sandbox that is not there.
var errGone error = &client.Error{Kind: "not_found", Message: "sandbox not found"}

// api is what can be done after a login.
type api struct {
	sandbox func(ref string) (client.Sandbox, error)
	run     func(ctx context.Context, e client.Exec) (client.Exit, error)
	dial    func(ref string, port uint16) (*client.PortConn, error)
}

func (a *api) Sandbox(_ context.Context, ref string) (client.Sandbox, error) { return a.sandbox(ref) }

func (a *api) Run(ctx context.Context, e client.Exec) (client.Exit, error) { return a.run(ctx, e) }

func (a *api) DialPort(_ context.Context, ref string, port uint16) (*client.PortConn, error) {
	return a.dial(ref, port)
}

func (a *api) Close() {}

// rig is a server and who may come in.
type rig struct {
	*api
	addr    string
	hostKey ssh.PublicKey
	key     ssh.Signer
	server  *server.Server

	mu     sync.Mutex
	teams  map[string][]string // by fingerprint
	events []string
	now    time.Time
	// grown gets something when events has grown.
	grown chan struct{}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	leak.Check(t)
	host := newKey(t)
	r := &rig{key: newKey(t), hostKey: host.PublicKey(), now: time.Now(), grown: make(chan struct{}, 1)}
	r.teams = map[string][]string{ssh.FingerprintSHA256(r.key.PublicKey()): {"crew"}}
	r.api = &api{
		sandbox: func(ref string) (client.Sandbox, error) {
			if ref != "otter" && ref != box {
				return client.Sandbox{}, errGone
			}
			return client.Sandbox{ID: box, Name: "otter"}, nil
		},
		run: func(context.Context, client.Exec) (client.Exit, error) { return client.Exit{}, nil },
	}
	r.server = server.New(server.Options{
		HostKey: host, Keys: r, Clock: r.clock, Log: slog.New(slog.DiscardHandler),
		As: func(team, _ string) server.Sandboxes {
			if team != "crew" {
				return &api{sandbox: func(string) (client.Sandbox, error) { return client.Sandbox{}, errGone }}
			}
			return r.api
		},
		Event: func(_ context.Context, typ, id string, f map[string]string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, strings.TrimSpace(typ+" "+id+" "+f["reason"]))
			select {
			case r.grown <- struct{}{}:
			default:
			}
		},
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

// Teams implements server.Keys.
func (r *rig) Teams(key ssh.PublicKey) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.teams[ssh.FingerprintSHA256(key)]
}

func (r *rig) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.events...)
}

// toldOf waits for so many events, of connections side by side.
func (r *rig) toldOf(t *testing.T, n int) []string {
	t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for len(r.told()) < n {
		select {
		case <-r.grown:
		case <-limit.C:
			t.Fatalf("told is %v, want %d", r.told(), n)
		}
	}
	all := r.told()
	slices.Sort(all)
	return all
}

func (r *rig) dialAs(user string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	return ssh.Dial("tcp", r.addr, &ssh.ClientConfig{User: user, Auth: auth, HostKeyCallback: ssh.FixedHostKey(r.hostKey)})
}

// login comes in as somebody of the crew.
func (r *rig) login(t *testing.T, user string) *ssh.Client {
	t.Helper()
	c, err := r.dialAs(user, ssh.PublicKeys(r.key))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) session(t *testing.T) *ssh.Session {
	t.Helper()
	s, err := r.login(t, "otter").NewSession()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Only a key that a team has lets anybody in.
func TestLogin(t *testing.T) {
	r := newRig(t)
	for name, auth := range map[string]ssh.AuthMethod{
		"another key": ssh.PublicKeys(newKey(t)),
		"a password":  ssh.Password("secret"),
		"a dialogue": ssh.KeyboardInteractive(func(string, string, []string, []bool) ([]string, error) {
			return []string{"secret"}, nil
		}),
	} {
		if c, err := r.dialAs("otter", auth); err == nil {
			c.Close()
			t.Errorf("%s lets somebody in", name)
		}
	}
	if _, err := r.login(t, box).NewSession(); err != nil { // it is on record by now
		t.Fatal(err)
	}
	got := r.toldOf(t, 2)
	want := []string{"ssh.denied  key not accepted", "ssh.login " + box}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// What a team does not have is not there, in the same words as what nobody has.
func TestNotFound(t *testing.T) {
	r := newRig(t)
	r.run = func(context.Context, client.Exec) (client.Exit, error) {
		t.Error("something was run")
		return client.Exit{}, nil
	}
	for _, user := range []string{"badger", "../otter", "otter\x1b[2J"} {
		c := r.login(t, user)
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		s.Stderr = &said
		var exit *ssh.ExitError
		if err := s.Run("true"); !errors.As(err, &exit) || exit.ExitStatus() != 255 {
			t.Errorf("%q: %v", user, err)
		}
		if got := said.String(); !strings.HasPrefix(got, "bulkhead: ") || strings.Contains(got, "\x1b") {
			t.Errorf("%q was told %q", user, got)
		}
		if _, err := c.Dial("tcp", "localhost:80"); err == nil {
			t.Errorf("%q reaches a port", user)
		}
	}
}

// A command has its output, its errors, its input and its exit code.
func TestExec(t *testing.T) {
	r := newRig(t)
	r.run = func(_ context.Context, e client.Exec) (client.Exit, error) {
		in, err := io.ReadAll(e.Stdin)
		fmt.Fprintf(e.Stdout, "%s %s %q %s", e.Sandbox, e.Args[len(e.Args)-1], in, e.Env["LANG"])
		fmt.Fprint(e.Stderr, "complaint")
		return client.Exit{Code: 7}, err
	}
	s := r.session(t)
	if err := s.Setenv("LANG", "C.UTF-8"); err != nil {
		t.Error(err)
	}
	if err := s.Setenv("A=B", "x"); err == nil {
		t.Error("a variable with = in its name is taken")
	}
	var out, errs bytes.Buffer
	s.Stdin, s.Stdout, s.Stderr = strings.NewReader("input"), &out, &errs
	var exit *ssh.ExitError
	if err := s.Run("echo; false"); !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		t.Errorf("ended with %v", err)
	}
	if got, want := out.String(), box+` echo; false "input" C.UTF-8`; got != want || errs.String() != "complaint" {
		t.Errorf("got %q and %q, want %q", got, errs.String(), want)
	}
}

// A terminal has a size that changes; signals arrive, and one that ends the
// program is told.
func TestTerminal(t *testing.T) {
	r := newRig(t)
	sizes, signals := make(chan client.Size, 2), make(chan int, 1)
	r.run = func(ctx context.Context, e client.Exec) (client.Exit, error) {
		sizes <- *e.Terminal
		sizes <- <-e.Resize
		signals <- <-e.Signals
		if e.Env["TERM"] != "xterm" {
			t.Errorf("TERM is %q", e.Env["TERM"])
		}
		return client.Exit{Code: 130, Signal: 2}, nil
	}
	s := r.session(t)
	if err := s.RequestPty("xterm", 24, 80, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	if got, want := <-sizes, (client.Size{Cols: 80, Rows: 24}); got != want {
		t.Errorf("began with %v, want %v", got, want)
	}
	if err := s.WindowChange(1<<30, 100); err != nil {
		t.Error(err)
	}
	if got, want := <-sizes, (client.Size{Cols: 100, Rows: 4096}); got != want {
		t.Errorf("changed to %v, want %v", got, want)
	}
	if err := s.Signal(ssh.SIGINT); err != nil {
		t.Error(err)
	}
	if got := <-signals; got != 2 {
		t.Errorf("got signal %d", got)
	}
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.Signal() != "INT" {
		t.Errorf("ended with %v", err)
	}
}

// Whoever goes away hangs up on the program; one that does not mind is let go.
func TestHangUp(t *testing.T) {
	r := newRig(t)
	began, hungUp, left := make(chan bool), make(chan int, 1), make(chan bool)
	r.run = func(ctx context.Context, e client.Exec) (client.Exit, error) {
		began <- true
		hungUp <- <-e.Signals
		<-ctx.Done()
		left <- true
		return client.Exit{}, ctx.Err()
	}
	s := r.session(t)
	if err := s.Start("sleep 1000"); err != nil {
		t.Fatal(err)
	}
	<-began
	s.Close()
	if got := <-hungUp; got != 1 {
		t.Errorf("got signal %d, want SIGHUP", got)
	}
	<-left
}

// What would give the guest something of the client's is refused, and so is
// what is no port of the guest.
func TestRefused(t *testing.T) {
	r := newRig(t)
	c := r.login(t, "otter")
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range []string{"auth-agent-req@openssh.com", "x11-req", "nonsense"} {
		if ok, err := s.SendRequest(request, true, nil); ok || err != nil {
			t.Errorf("%s: %v, %v", request, ok, err)
		}
	}
	if err := s.RequestSubsystem("shell"); err == nil {
		t.Error("an unknown subsystem is offered")
	}
	if ok, err := s.SendRequest("pty-req", true, []byte("short")); ok || err != nil {
		t.Errorf("a malformed request: %v, %v", ok, err)
	}
	if l, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
		t.Error("the guest is given a port of the client")
	}
	for _, target := range []string{"10.0.0.1:80", "example.com:443"} {
		if _, err := c.Dial("tcp", target); err == nil {
			t.Errorf("%s can be reached", target)
		}
	}
	if _, err := c.Dial("unix", "/run/docker.sock"); err == nil {
		t.Error("a socket can be reached")
	}
}

// A key that is good no more has no connections, those of its sandbox end with
// it, and what cannot be run says why.
func TestEnds(t *testing.T) {
	t.Run("key", func(t *testing.T) {
		r := newRig(t)
		c := r.login(t, "otter")
		if _, err := c.NewSession(); err != nil { // it is served by now
			t.Fatal(err)
		}
		r.server.Drop("others", ssh.FingerprintSHA256(r.key.PublicKey()))
		if _, err := c.NewSession(); err != nil {
			t.Errorf("cut by what happened to others: %v", err)
		}
		r.server.Drop("crew", ssh.FingerprintSHA256(r.key.PublicKey()))
		c.Wait()
	})
	t.Run("sandbox", func(t *testing.T) {
		r := newRig(t)
		c := r.login(t, "otter")
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		r.run = func(context.Context, client.Exec) (client.Exit, error) {
			r.sandbox = func(string) (client.Sandbox, error) { return client.Sandbox{}, errGone }
			return client.Exit{}, client.ErrCutOff
		}
		var said bytes.Buffer
		s.Stderr = &said
		if err := s.Run("true"); err == nil || !strings.Contains(said.String(), client.ErrCutOff.Error()) {
			t.Errorf("ended with %v, %q", err, said.String())
		}
		c.Wait()
	})
}

// Channels are bounded, and so are logins that fail.
func TestBounds(t *testing.T) {
	r := newRig(t)
	c := r.login(t, "otter")
	open := 0
	for range 20 {
		if _, err := c.NewSession(); err == nil {
			open++
		}
	}
	if open != 10 {
		t.Errorf("%d sessions of one connection, want 10", open)
	}
	wrong := ssh.PublicKeys(newKey(t))
	for range 30 { // the last of them may not have been counted yet
		if _, err := r.dialAs("otter", wrong); err == nil {
			t.Fatal("an unknown key lets somebody in")
		}
	}
	if _, err := r.dialAs("otter", ssh.PublicKeys(r.key)); err == nil {
		t.Error("somebody may go on to guess")
	}
	r.pass(time.Minute)
	r.login(t, "otter")
}
