package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/test/harness"

	"github.com/creack/pty"
)

// shell is the stock clients with a configuration of ours and a key.
type shell struct {
	t   *testing.T
	h   *harness.Host
	dir string
	// key is the file in dir that has the private one.
	key string
}

// newShell makes a key that lets somebody into the sandboxes of a team, and the
// client's configuration.
func newShell(t *testing.T, h *harness.Host, team string) *shell {
	t.Helper()
	s := &shell{t, h, t.TempDir(), "key"}
	s.keygen(s.key)
	h.Must("ssh-key", "add", s.dir+"/key.pub", "--name", team, "--team", team)
	t.Cleanup(func() { h.Must("ssh-key", "rm", team) })
	h.Must("ssh-config", "--dir", s.dir)
	return s
}

func (s *shell) keygen(name string) {
	s.t.Helper()
	out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.dir, name)).CombinedOutput()
	if err != nil {
		s.t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}

// command is one of the clients, not yet started.
func (s *shell) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, append([]string{
		"-F", s.dir + "/config", "-o", "BatchMode=yes", "-o", "IdentityFile=" + filepath.Join(s.dir, s.key), "-o", "IdentitiesOnly=yes",
	}, args...)...)
}

// run runs one of the clients with text on standard input.
func (s *shell) run(stdin, name string, args ...string) harness.Result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), harness.Patience)
	defer cancel()
	cmd := s.command(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	r := harness.Result{Stdout: out.String(), Stderr: errs.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.Code = exit.ExitCode()
	} else if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// must is run for what has to succeed; it returns what was printed.
func (s *shell) must(name string, args ...string) string {
	s.t.Helper()
	r := s.run("", name, args...)
	if r.Code != 0 {
		s.t.Fatalf("%s %q: exit code %d\n%s%s", name, args, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// The stock clients work with a sandbox as with any machine.
func TestSSH(t *testing.T) {
	h := host(t)
	b := h.Create("shelled")
	s := newShell(t, h, "default")
	const at = "shelled.bulkhead"
	t.Run("exec", func(t *testing.T) { testSSHExec(t, s, at) })
	t.Run("terminal", func(t *testing.T) { testSSHTerminal(t, s, at) })
	t.Run("files", func(t *testing.T) { testSSHFiles(t, s, b, at) })
	t.Run("forward", func(t *testing.T) { testSSHForward(t, s, b, at) })
	t.Run("refused", func(t *testing.T) { testSSHRefused(t, s, at) })
	t.Run("life", func(t *testing.T) { testSSHLife(t, s, b, at) })
}

func testSSHExec(t *testing.T, s *shell, at string) {
	r := s.run("some input", "ssh", "-o", "SetEnv=GREETING=hello", at, "cat; echo \" $GREETING $SHELL $HOME\"; echo complaint >&2; exit 7")
	want := harness.Result{Stdout: "some input hello /bin/bash /root\n", Stderr: "complaint\n", Code: 7}
	if r != want {
		t.Errorf("got %+v, want %+v", r, want)
	}
	// A client that is told of a signal ends like one that is told nothing.
	if r := s.run("", "ssh", at, "kill -TERM $$"); r.Code != 255 {
		t.Errorf("killed by a signal: %+v", r)
	}
	if r := s.run("", "ssh", at, "no-such-program"); r.Code != 127 {
		t.Errorf("no such program: %+v", r)
	}
}

func testSSHTerminal(t *testing.T, s *shell, at string) {
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	cmd := s.command(ctx, "ssh", "-tt", at)
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 111})
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	screen := &screen{t: t, tty: tty}
	screen.enter(`PS1=; stty -echo; echo "[size $(stty size)]"`)
	screen.await("[size 33 111]")
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 44, Cols: 122}); err != nil {
		t.Fatal(err)
	}
	// The new size arrives behind what is typed, so it is waited for.
	screen.enter(`until [ "$(stty size)" = "44 122" ]; do sleep 0.1; done; printf '[%s]' changed`)
	screen.await("[changed]")
	// The program says itself that it runs: it has the terminal by then.
	screen.enter(`sh -c 'trap "printf [%s] interrupted; exit 5" INT; printf [%s] waits; while :; do sleep 0.1; done'`)
	screen.await("[waits]")
	fmt.Fprint(tty, "\x03")
	screen.await("[interrupted]")
	screen.enter("exit 9")
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 9 {
		t.Errorf("ended with %v", err)
	}
}

// screen is what a terminal shows.
type screen struct {
	t     *testing.T
	tty   *os.File
	shown []byte
}

// enter types a line.
func (s *screen) enter(line string) {
	s.t.Helper()
	if _, err := s.tty.WriteString(line + "\n"); err != nil {
		s.t.Fatal(err)
	}
}

// await reads until a text was shown.
func (s *screen) await(text string) {
	s.t.Helper()
	buf := make([]byte, 4096)
	for !bytes.Contains(s.shown, []byte(text)) {
		n, err := s.tty.Read(buf)
		s.shown = append(s.shown, buf[:n]...)
		if err != nil {
			s.t.Fatalf("waiting for %q: %v\n%q", text, err, s.shown)
		}
	}
	s.shown = s.shown[bytes.Index(s.shown, []byte(text))+len(text):]
}

func testSSHFiles(t *testing.T, s *shell, b *harness.Box, at string) {
	folder := filepath.Join(s.dir, "tree")
	if err := os.MkdirAll(folder+"/below", 0o755); err != nil {
		t.Fatal(err)
	}
	long := bytes.Repeat([]byte("0123456789abcdef"), 1<<15)
	for name, content := range map[string][]byte{"long": long, "below/short": []byte("x"), "below/with space": nil} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	s.must("scp", "-r", folder, at+":by-scp")
	s.must("scp", "-O", "-r", folder, at+":by-old-scp")
	batch := filepath.Join(s.dir, "batch")
	if err := os.WriteFile(batch, []byte("mkdir by-sftp\nput -r "+folder+"/* by-sftp\nchmod 600 by-sftp/long\nsymlink long by-sftp/link\nrm by-sftp/link\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.must("sftp", "-b", batch, at)
	remote := "ssh " + strings.Join(s.command(t.Context(), "ssh").Args[1:], " ")
	rsync := func(args ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "rsync", append([]string{"-a", "-e", remote}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("rsync %q: %v\n%s", args, err, out)
		}
	}
	rsync(folder+"/", at+":by-rsync")
	for _, by := range []string{"scp", "old-scp", "sftp", "rsync"} {
		back := filepath.Join(s.dir, "back-"+by)
		if by == "rsync" {
			rsync(at+":by-rsync/", back)
		} else {
			s.must("scp", "-r", at+":by-"+by, back)
		}
		if out, err := exec.Command("diff", "-r", folder, back).CombinedOutput(); err != nil {
			t.Errorf("by %s: %v\n%s", by, err, out)
		}
	}
	if got, want := b.Sh("stat -c '%a %U' /root/by-sftp/long"), "600 root"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func testSSHForward(t *testing.T, s *shell, b *harness.Box, at string) {
	b.Sh(fmt.Sprintf(repeater, "127.0.0.1", 7011))
	if r := s.run("by -W", "ssh", "-W", "localhost:7011", at); r.Stdout != "told by -W" {
		t.Errorf("got %+v", r)
	}
	if r := s.run("", "ssh", "-W", "localhost:7012", at); r.Code == 0 || !strings.Contains(r.Stderr, "nothing listens on port 7012") {
		t.Errorf("a port without a listener: %+v", r)
	}
	if r := s.run("", "ssh", "-W", "example.com:80", at); r.Code == 0 || !strings.Contains(r.Stderr, "only ports of the sandbox") {
		t.Errorf("somebody else's port: %+v", r)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	local := free.Addr().String()
	free.Close()
	cmd := s.command(t.Context(), "ssh", "-N", "-o", "ExitOnForwardFailure=yes", "-L", local+":localhost:7011", at)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait() // it was killed
	}()
	for i := range 3 {
		conn := dialUntil(t, local)
		defer conn.Close()
		fmt.Fprintf(conn, "call %d", i)
		conn.(*net.TCPConn).CloseWrite()
		if all, err := io.ReadAll(conn); err != nil || string(all) != fmt.Sprintf("told call %d", i) {
			t.Errorf("%q, %v", all, err)
		}
	}
}

// dialUntil connects to an address as soon as somebody listens there.
func dialUntil(t *testing.T, address string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("nobody listens at %s: %v", address, err)
		}
	}
}

func testSSHRefused(t *testing.T, s *shell, at string) {
	s.keygen("wrong")
	wrong := *s
	wrong.key = "wrong"
	for name, r := range map[string]harness.Result{
		"wrong key": wrong.run("", "ssh", at, "true"),
		"password":  s.run("", "ssh", "-o", "PubkeyAuthentication=no", "-o", "PasswordAuthentication=yes", at, "true"),
	} {
		if r.Code != 255 || !strings.Contains(r.Stderr, "Permission denied (publickey)") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	r := s.run("", "ssh", "-o", "ExitOnForwardFailure=yes", "-R", "7013:localhost:1", at, "true")
	if r.Code != 255 || !strings.Contains(r.Stderr, "remote port forwarding failed") {
		t.Errorf("a port of the client: %+v", r)
	}
	if r := s.run("", "ssh", "-A", at, `echo "agent ${SSH_AUTH_SOCK:-none}"`); r.Stdout != "agent none\n" {
		t.Errorf("an agent: %+v", r)
	}
	others := newShell(t, s.h, "others")
	if r := others.run("", "ssh", at, "true"); r.Code != 255 || !strings.Contains(r.Stderr, "not found") {
		t.Errorf("another team's sandbox: %+v", r)
	}
	events := s.h.Must("events", "--kind", "ssh")
	for _, want := range []string{"ssh.login", "ssh.denied", "key not accepted", "no such sandbox"} {
		if !strings.Contains(events, want) {
			t.Errorf("no event has %q:\n%s", want, events)
		}
	}
}

// A connection wakes a sandbox that is paused, and ends with one that is removed.
func testSSHLife(t *testing.T, s *shell, b *harness.Box, at string) {
	s.h.Must("pause", b.Name)
	if got := s.must("ssh", at, "echo awake"); got != "awake\n" {
		t.Errorf("got %q", got)
	}
	if got := b.Inspect().State; got != client.StateRunning {
		t.Errorf("it is %s", got)
	}
	cmd := s.command(t.Context(), "ssh", at, "echo begun; sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	s.h.Must("rm", "-f", b.Name)
	if _, err := io.ReadAll(out); err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 255 {
		t.Errorf("ended with %v", err)
	}
}
