package cli_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// console is a terminal in which the command line runs.
type console struct {
	t    *testing.T
	tty  *os.File
	out  *bufio.Reader
	seen strings.Builder
	cmd  *exec.Cmd
}

// inWorld has bulkhead speak to a daemon with the sandboxes otter and frozen.
func inWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the guest's programs run as root on this host, and this is not root")
	}
	dir, err := os.MkdirTemp("", "cli")
	if err != nil {
		t.Fatal(err)
	}
	w, shut, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(shut(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("BULKHEAD_SOCKET", w.socket)
	if out, err := exec.Command("sh", "-ec", "for n in otter frozen; do bulkhead create base --name $n; done").CombinedOutput(); err != nil {
		t.Fatalf("create: %v: %s", err, out)
	}
	return w
}

// ended is what a terminal shows when bulkhead has ended. The shell that says so
// owns the terminal and waits for a key: the end of its owner hangs a terminal
// up, and what was not read by then is gone (pty_flush_buffer in the kernel).
const ended = "\x1e"

// inTerminal runs bulkhead with a terminal of 100 by 30.
func inTerminal(t *testing.T, args ...string) *console {
	t.Helper()
	var err error
	owner := `trap : INT; bulkhead "$@"; code=$?; printf '\036'; read -r _; exit $code`
	c := &console{t: t, cmd: exec.Command("sh", append([]string{"-c", owner, "sh"}, args...)...)}
	c.tty, err = pty.StartWithSize(c.cmd, &pty.Winsize{Cols: 100, Rows: 30})
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(c.tty)
	limit := time.AfterFunc(time.Minute, func() { c.cmd.Process.Kill() }) // what is expected will not come
	t.Cleanup(func() {
		limit.Stop()
		c.cmd.Process.Kill() // it has ended, unless the test failed
		c.cmd.Wait()
		c.tty.Close()
	})
	return c
}

// expect reads until text has come.
func (c *console) expect(text string) {
	c.t.Helper()
	var line strings.Builder
	for !strings.Contains(line.String(), text) {
		b, err := c.out.ReadByte()
		if err != nil {
			c.t.Fatalf("%q did not come but %q, then %v", text, c.seen.String(), err)
		}
		line.WriteByte(b)
		c.seen.WriteByte(b)
	}
}

func (c *console) keys(text string) {
	c.t.Helper()
	if _, err := c.tty.WriteString(text); err != nil {
		c.t.Fatal(err)
	}
}

// ends waits for the end of bulkhead and checks its exit code.
func (c *console) ends(want int) {
	c.t.Helper()
	c.expect(ended)
	c.keys("\r")
	c.cmd.Wait()
	if got := c.cmd.ProcessState.ExitCode(); got != want {
		c.t.Errorf("got exit code %d, want %d: %q", got, want, c.seen.String())
	}
}

// flags returns the modes of our terminal.
func (c *console) flags() uint32 {
	c.t.Helper()
	modes, err := unix.IoctlGetTermios(int(c.tty.Fd()), unix.TCGETS)
	if err != nil {
		c.t.Fatal(err)
	}
	return modes.Lflag
}

func TestShellInATerminal(t *testing.T) {
	inWorld(t)
	c := inTerminal(t, "shell", "otter")
	c.keys("PS1=; stty -echo size; echo ready\r")
	c.expect("30 100\r\n")
	c.expect("ready\r\n")
	if c.flags()&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Error("our terminal is not raw")
	}

	// A change of our size reaches the program.
	if err := pty.Setsize(c.tty, &pty.Winsize{Cols: 77, Rows: 11}); err != nil {
		t.Fatal(err)
	}
	c.keys("until [ \"$(stty size)\" = '11 77' ]; do read -t 0.05; done; echo size is $(stty size)\r")
	c.expect("size is 11 77\r\n")

	// So do keys that our terminal would make signals of.
	c.keys(`sh -c 'trap "echo interrupted; exit" INT; echo waiting; while :; do sleep 0.05; done'` + "\r")
	c.expect("waiting\r\n")
	c.keys("\x03")
	c.expect("interrupted\r\n")

	c.keys("exit 42\r")
	c.ends(42)
}

func TestTerminalIsRestored(t *testing.T) {
	inWorld(t)
	c := inTerminal(t, "exec", "-it", "otter", "--", "sh", "-c", "stty -a >/dev/null; echo up; read x; exit 5")
	c.expect("up\r\n")
	if c.flags()&unix.ICANON != 0 {
		t.Error("our terminal is not raw")
	}
	c.keys("\r")
	c.expect(ended)
	if want := uint32(unix.ICANON | unix.ECHO | unix.ISIG); c.flags()&want != want {
		t.Error("our terminal is still raw")
	}
	c.keys("\r")
	c.cmd.Wait()
	if got, want := c.cmd.ProcessState.ExitCode(), 5; got != want {
		t.Errorf("got exit code %d, want %d", got, want)
	}
}

// Without -i the command gets no keys, so ours must go on to make signals.
func TestTerminalWithoutInputCanBeInterrupted(t *testing.T) {
	inWorld(t)
	c := inTerminal(t, "exec", "-t", "otter", "--", "sh", "-c", `trap 'echo asked; exit 6' TERM; echo up; while :; do sleep 0.05; done`)
	c.expect("up")
	c.keys("\x03")
	c.expect("asked")
	c.ends(6)
}

// Ctrl-C ends a build; what was under way leaves the terminal.
func TestBuildIsInterrupted(t *testing.T) {
	inWorld(t)
	c := inTerminal(t, "template", "build", "slow")
	c.expect("[1/2] install Debian packages: Get:1 ...")
	c.keys("\x03")
	c.expect("bulkhead: interrupted\r\n")
	c.ends(130)
}

// What a guest prints does nothing to a terminal, unless somebody wants it to.
func TestLogsOnATerminal(t *testing.T) {
	w := inWorld(t)
	if err := os.WriteFile(filepath.Join(w.dir, "console.log"), []byte("\x1b[2Jlogin\x1b]0;x\x07: \x1b[31m"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"login: ": {"logs", "otter"}, "\x1b[2Jlogin\x1b]0;x\x07: \x1b[31m": {"logs", "otter", "--raw"},
	} {
		c := inTerminal(t, args...)
		c.ends(0)
		if got := strings.TrimSuffix(c.seen.String(), ended); got != want {
			t.Errorf("%q shows %q, want %q", args, got, want)
		}
	}
}

// A program that will not end is killed with the second Ctrl-C.
func TestSecondInterruptKills(t *testing.T) {
	inWorld(t)
	c := inTerminal(t, "exec", "otter", "--", "sh", "-c", `trap 'echo asked' TERM; echo up; while :; do sleep 0.05; done`)
	c.expect("up")
	c.keys("\x03")
	c.expect("asked")
	c.keys("\x03")
	c.ends(128 + int(syscall.SIGKILL))
}

// A guest that has stopped to answer must not keep us.
func TestThirdInterruptGivesUp(t *testing.T) {
	w := inWorld(t)
	cmd := exec.Command("bulkhead", "exec", "frozen", "--", "sh", "-c", "echo up; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("up\n"))); err != nil {
		t.Errorf("the command did not begin: %v", err)
	}
	interrupt := func(sig os.Signal) {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Error(err)
		}
	}
	interrupt(syscall.SIGINT)
	select {
	case <-w.asked: // the first has been dealt with: the next two, unlike each other, both count
	case <-time.After(time.Minute):
		t.Error("the guest was not asked to end the command")
	}
	interrupt(syscall.SIGINT)
	interrupt(syscall.SIGTERM)
	cmd.Wait()
	if got, want := cmd.ProcessState.ExitCode(), 125; got != want {
		t.Errorf("got exit code %d, want %d", got, want)
	}
	if got := said.String(); !strings.Contains(got, "gave up waiting") {
		t.Errorf("it was not said that the command may still run: %q", got)
	}
}
