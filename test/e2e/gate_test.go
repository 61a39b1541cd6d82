package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bulkhead/client"
	"bulkhead/client/remote"
	"bulkhead/internal/server/token"
	"bulkhead/test/harness"
)

// gated is a host that listens on TCP, and a sandbox in which a web server
// listens on loopback.
type gated struct {
	*harness.Host
	box     *harness.Box
	id      string
	plain   string // its URL in the clear
	secure  string // its URL by TLS
	tokens  token.Seed
	clients http.Client // trusts the host's authority
}

func newGated(t *testing.T) *gated {
	t.Helper()
	g := &gated{Host: harness.New(t, "--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--domain", "bulkhead.test").Base()}
	for _, m := range regexp.MustCompile(`url=(https?)(://\S+)`).FindAllStringSubmatch(g.LogTail(1<<20), -1) {
		if m[1] == "http" {
			g.plain = m[1] + m[2]
		} else {
			g.secure = m[1] + m[2]
		}
	}
	key, err := os.ReadFile(filepath.Join(g.Dir, "host.key"))
	if err != nil {
		t.Fatal(err)
	}
	if g.tokens, err = token.New(key); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(g.Dir, "tls", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("the host's authority is no certificate")
	}
	// Names below the domain are the host's, as its DNS would say.
	address := strings.TrimPrefix(g.secure, "https://")
	transport := &http.Transport{
		DialTLSContext: func(ctx context.Context, network, to string) (net.Conn, error) {
			name, _, err := net.SplitHostPort(to)
			if err != nil {
				return nil, err
			}
			d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: name}}
			return d.DialContext(ctx, network, address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	g.clients.Transport = transport
	g.box = g.Create("served")
	g.id = g.box.Inspect().ID
	g.box.Sh(`mkdir -p /srv/www && echo hello > /srv/www/a.txt
systemd-run --quiet --collect python3 -m http.server --bind 127.0.0.1 --directory /srv/www 8000
until ss -ltn | grep -q :8000; do sleep 0.1; done`)
	return g
}

// ask sends a request and returns what is answered.
func (g *gated) ask(t *testing.T, method, url, body string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	res, err := g.clients.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// remotely is the command line at another host, with a key.
func (g *gated) remotely(key string, args ...string) harness.Result {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, g.Bin, args...)
	cmd.Env = append(os.Environ(), "BULKHEAD_URL="+g.plain, "BULKHEAD_API_KEY="+key)
	var out, errw bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errw
	err := cmd.Run()
	r := harness.Result{Stdout: out.String(), Stderr: errw.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.Code = exit.ExitCode()
	} else if err != nil {
		r.Code, r.Stderr = -1, err.Error()
	}
	return r
}

// TestGate comes in by TCP, as programs and browsers of others do.
func TestGate(t *testing.T) {
	g := newGated(t)
	t.Run("keys", func(t *testing.T) { testKeysOnARealHost(t, g) })
	t.Run("ports", func(t *testing.T) { testPortsByName(t, g) })
	t.Run("files", func(t *testing.T) { testSignedFiles(t, g) })
	t.Run("sleep", func(t *testing.T) { testWakingByRequest(t, g) })
	t.Run("end", func(t *testing.T) { testStreamsEndWithTheMachine(t, g) })
}

func testKeysOnARealHost(t *testing.T, g *gated) {
	h := g.With(t)
	own := strings.TrimSpace(h.Must("key", "create", "own"))
	acme := strings.TrimSpace(h.Must("key", "create", "acme-ci", "--team", "acme", "--scope", "operate"))
	agent := strings.TrimSpace(h.Must("key", "create", "agent", "--sandbox", "served"))

	if r := g.remotely(own, "exec", "served", "--", "echo", "over", "TCP"); r.Stdout != "over TCP\n" {
		t.Errorf("exec by TCP: %d %q %s", r.Code, r.Stdout, r.Stderr)
	}
	// A team has names of its own, and sees nothing of another's.
	if r := g.remotely(acme, "create", "base", "--name", "served"); r.Code != 0 {
		t.Fatalf("another team's sandbox of the same name: %d %s", r.Code, r.Stderr)
	}
	defer g.remotely(acme, "rm", "-f", "served")
	for key, want := range map[string]string{own: g.id, agent: g.id, acme: "acme"} {
		if r := g.remotely(key, "ls", "-o", "json"); strings.Count(r.Stdout, `"sandboxID"`) != 1 || !strings.Contains(r.Stdout, want) {
			t.Errorf("ls shows %s, want one with %s", r.Stdout, want)
		}
	}
	for _, args := range [][]string{{"inspect", g.id}, {"rm", "-f", g.id}, {"exec", g.id, "--", "true"}, {"timeline", g.id}, {"export", g.id, filepath.Join(t.TempDir(), "x")}} {
		if r := g.remotely(acme, args...); r.Code == 0 || !strings.Contains(r.Stderr, "not found") {
			t.Errorf("another team: %v: %d %s", args, r.Code, r.Stderr)
		}
	}
	if r := g.remotely(acme, "events", "--sandbox", g.id); strings.Contains(r.Stdout, g.id) {
		t.Errorf("another team is told %s", r.Stdout)
	}
	if r := g.remotely(acme, "events"); !strings.Contains(r.Stdout, "sandbox.") || strings.Contains(r.Stdout, "daemon.started") || strings.Contains(r.Stdout, g.id) {
		t.Errorf("another team's own events: %s", r.Stdout)
	}
	// What an agent may do to its machine does not include letting it out.
	if r := g.remotely(agent, "egress", "allow", "served", "evil.example"); r.Code == 0 {
		t.Error("an agent changed its own policy")
	}
	if r := g.remotely(agent, "snapshot", "served", "--name", "mine"); r.Code != 0 {
		t.Errorf("an agent's snapshot: %s", r.Stderr)
	}
	if out := h.Must("ls"); !strings.Contains(out, "TEAM") || !strings.Contains(out, "acme") {
		t.Errorf("ls does not tell teams:\n%s", out)
	}
	testRevocation(t, g, agent)
}

// testRevocation takes a key away while a program runs for it.
func testRevocation(t *testing.T, g *gated, key string) {
	c, err := remote.Dial(remote.Host{URL: g.plain, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in, feed := io.Pipe()
	defer feed.Close()
	first := make(chan struct{})
	out := writerFunc(func(b []byte) (int, error) {
		close(first)
		return len(b), nil
	})
	ended := make(chan error, 1)
	go func() {
		_, err := c.Exec(t.Context(), client.Exec{Sandbox: "served", Cmd: "sh", Args: []string{"-c", "echo begun; sleep 1000"}, Stdin: in, Stdout: out})
		ended <- err
	}()
	<-first
	g.Must("key", "revoke", "agent")
	if err := <-ended; !errors.Is(err, client.ErrCutOff) {
		t.Errorf("the program's stream ended with %v, want %v", err, client.ErrCutOff)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func testPortsByName(t *testing.T, g *gated) {
	for name, ask := range map[string][]string{
		"by a name under localhost":  {g.plain + "/a.txt", "Host", "8000-" + g.id + ".localhost:3000"},
		"by headers":                 {g.plain + "/a.txt", "E2b-Sandbox-Id", g.id, "E2b-Sandbox-Port", "8000"},
		"by a name under its domain": {"https://8000-" + g.id + ".bulkhead.test/a.txt"},
		"by localhost and TLS":       {"https://8000-" + g.id + ".localhost/a.txt"},
	} {
		if status, body := g.ask(t, "GET", ask[0], "", ask[1:]...); status != 200 || body != "hello\n" {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	status, body := g.ask(t, "GET", "https://8001-"+g.id+".bulkhead.test/", "")
	if want := fmt.Sprintf(`{"sandboxId":"%s","message":"The sandbox is running but port is not open","port":8001,"code":502}`, g.id); status != 502 || strings.TrimSpace(body) != want {
		t.Errorf("a closed port: %d %s", status, body)
	}
}

func testSignedFiles(t *testing.T, g *gated) {
	access := g.tokens.Access(g.id)
	link := func(f token.File) string {
		return g.plain + "/files?" + url.Values{"path": {f.Path}, "username": {f.User}, "signature": {token.Sign(f, access)}}.Encode()
	}
	if status, body := g.ask(t, "POST", link(token.File{Path: "/root/up.txt", User: "root", Write: true}), "by a link", "Content-Type", "application/octet-stream"); status != 200 {
		t.Fatalf("upload: %d %s", status, body)
	}
	if status, body := g.ask(t, "GET", link(token.File{Path: "/root/up.txt", User: "root"}), ""); status != 200 || body != "by a link" {
		t.Errorf("download: %d %s", status, body)
	}
	status, body := g.ask(t, "GET", g.plain+"/files?path=/etc/shadow&username=root", "", "E2b-Sandbox-Id", g.id, "E2b-Sandbox-Port", "49983")
	if status != 401 || strings.Contains(body, "root:") {
		t.Errorf("without a signature: %d %s", status, body)
	}
	envs := []string{"E2b-Sandbox-Id", g.id, "E2b-Sandbox-Port", "49983", "X-Access-Token", access}
	if status, body := g.ask(t, "GET", g.plain+"/files?path=/root/up.txt&username=root", "", envs...); status != 200 || body != "by a link" {
		t.Errorf("by the access token: %d %s", status, body)
	}
}

func testWakingByRequest(t *testing.T, g *gated) {
	h := g.With(t)
	health := []string{"E2b-Sandbox-Id", g.id, "E2b-Sandbox-Port", "49983"}
	notFound := fmt.Sprintf(`{"sandboxId":"%s","message":"The sandbox was not found","code":502}`, g.id)
	h.Must("pause", "served", "--stay")
	if status, body := g.ask(t, "GET", "https://8000-"+g.id+".bulkhead.test/a.txt", ""); status != 502 || strings.TrimSpace(body) != notFound {
		t.Errorf("one that stays paused: %d %s", status, body)
	}
	h.Must("resume", "served")
	h.Must("pause", "served")
	if status, body := g.ask(t, "GET", g.plain+"/health", "", health...); status != 502 || strings.TrimSpace(body) != notFound {
		t.Errorf("a stranger's question wakes one: %d %s", status, body)
	}
	if status, body := g.ask(t, "GET", "https://8000-"+g.id+".bulkhead.test/a.txt", ""); status != 200 || body != "hello\n" {
		t.Errorf("a request to one that sleeps: %d %s", status, body)
	}
	// Its token is what it was.
	if status, body := g.ask(t, "GET", g.plain+"/health", "", append(health, "X-Access-Token", g.tokens.Access(g.id))...); status != 204 {
		t.Errorf("by the token of before: %d %s", status, body)
	}
}

// testStreamsEndWithTheMachine removes a sandbox while something of it is read.
func testStreamsEndWithTheMachine(t *testing.T, g *gated) {
	g.box.Sh(`systemd-run --quiet --collect python3 -c '
import socket
s = socket.create_server(("0.0.0.0", 8002))
while True:
    c, _ = s.accept()
    c.recv(4096)
    c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
'
until ss -ltn | grep -q :8002; do sleep 0.1; done`)
	r, err := http.NewRequestWithContext(t.Context(), "GET", "https://8002-"+g.id+".bulkhead.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := g.clients.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	begun := make([]byte, 5)
	if _, err := io.ReadFull(res.Body, begun); err != nil || string(begun) != "begun" {
		t.Fatalf("read %q, %v", begun, err)
	}
	g.With(t).Must("rm", "-f", "served")
	if rest, err := io.ReadAll(res.Body); err == nil || len(rest) > 0 {
		t.Errorf("the stream ended well, with %q", rest)
	}
	if status, _ := g.ask(t, "GET", "https://8002-"+g.id+".bulkhead.test/", ""); status != 502 {
		t.Errorf("of one that is gone: %d, want 502", status)
	}
}
