// Package harness drives the real bulkhead binary for tests: it starts host
// daemons on fresh state directories, runs the CLI against them, and takes
// everything down again.
//
// It knows the command line and the JSON that it prints, nothing of the
// product's insides. A Host belongs to one test at a time; its commands may
// run side by side.
package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/client"
)

// Patience bounds every single command. It is no measure of speed: it only
// turns a hang into a failure with a message.
const Patience = 10 * time.Minute

// Host is one daemon with its state directory.
type Host struct {
	tb testing.TB
	// Bin is the bulkhead binary; Dir the state directory.
	Bin, Dir string
	// Cache is shared by all test runs of a machine, so that the template is
	// built once.
	Cache string
	args  []string

	daemon *exec.Cmd
	exited chan struct{} // closed when the daemon is gone
	log    *os.File
	// unguard ends the process that cleans up after a killed test.
	unguard func() error
}

// New makes a host with a fresh state directory and starts its daemon with
// args on top of the usual ones. Everything is removed when the test ends.
func New(tb testing.TB, args ...string) *Host {
	tb.Helper()
	h, err := Start(args...)
	if err != nil {
		tb.Fatal(err)
	}
	h.closeWith(tb)
	return h
}

// On makes a host with the state directory dir, an empty folder whose content
// is removed when the test ends. The caller starts the daemon.
func On(tb testing.TB, dir string, args ...string) *Host {
	tb.Helper()
	h, err := prepare(dir, dir+".log", args)
	if err != nil {
		tb.Fatal(err)
	}
	h.closeWith(tb)
	return h
}

// closeWith has the host closed when a test ends.
func (h *Host) closeWith(tb testing.TB) {
	h.tb = tb
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("daemon's log:\n%s", h.LogTail(16<<10))
		}
		if err := h.Close(); err != nil {
			tb.Error(err)
		}
	})
}

// Start is New for callers that are not tests. The caller calls Close.
func Start(args ...string) (*Host, error) {
	dir, err := os.MkdirTemp("", "bh")
	if err != nil {
		return nil, err
	}
	h, err := prepare(dir, filepath.Join(dir, "daemon.log"), args)
	if err != nil {
		return nil, err
	}
	if err := h.Serve(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// prepare makes a host whose daemon does not run yet.
func prepare(dir, log string, args []string) (*Host, error) {
	bin, err := binary()
	if err != nil {
		return nil, err
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	h := &Host{Bin: bin, Dir: dir, Cache: cache, args: args}
	if h.log, err = os.Create(log); err != nil {
		return nil, err
	}
	return h, guard(h)
}

// Lent returns a host whose daemon the caller runs itself, on the state
// directory dir. The caller takes it down.
func Lent(tb testing.TB, dir string) *Host {
	tb.Helper()
	bin, err := binary()
	if err != nil {
		tb.Fatal(err)
	}
	cache, err := cacheDir()
	if err != nil {
		tb.Fatal(err)
	}
	h := &Host{tb: tb, Bin: bin, Dir: dir, Cache: cache}
	if err := guard(h); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.unguard(); err != nil {
			tb.Error(err)
		}
	})
	return h
}

// With returns the same host reporting to another test.
func (h *Host) With(tb testing.TB) *Host {
	c := *h
	c.tb = tb
	return &c
}

// binary is where make build puts it, or BULKHEAD_BIN.
func binary() (string, error) {
	if bin := os.Getenv("BULKHEAD_BIN"); bin != "" {
		return bin, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, "bin", "bulkhead")
	if _, err := os.Stat(bin); err != nil {
		return "", fmt.Errorf("%w: run make build first", err)
	}
	return bin, nil
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("not inside the module")
}

func cacheDir() (string, error) {
	if dir := os.Getenv("BULKHEAD_TEST_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "bulkhead-test"), err
}

// Serve starts the daemon and waits until it answers.
func (h *Host) Serve() error {
	if err := h.Launch(); err != nil {
		return err
	}
	return h.Await()
}

// Launch starts the daemon.
func (h *Host) Launch() error {
	args := append([]string{"serve", "--state-dir", h.Dir, "--cache-dir", h.Cache, "--log-level", "debug"}, h.args...)
	cmd := exec.Command(h.Bin, args...)
	cmd.Stdout, cmd.Stderr = h.log, h.log
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	h.daemon, h.exited = cmd, exited
	return nil
}

// Await waits until the daemon answers.
func (h *Host) Await() error {
	c := client.New(h.Socket())
	limit := time.NewTimer(Patience)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if c.Health(context.Background()) == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-h.exited:
			return fmt.Errorf("daemon ended while it started:\n%s", h.LogTail(4<<10))
		case <-limit.C:
			return fmt.Errorf("daemon does not answer:\n%s", h.LogTail(4<<10))
		}
	}
}

// Socket is the daemon's unix socket.
func (h *Host) Socket() string { return filepath.Join(h.Dir, "bulkhead.sock") }

// DaemonPID is the process number of the daemon.
func (h *Host) DaemonPID() int { return h.daemon.Process.Pid }

// Stop ends the daemon as an operator would and waits for it.
func (h *Host) Stop() { h.end(syscall.SIGTERM) }

// Kill ends the daemon at once, as a crash would.
func (h *Host) Kill() { h.end(syscall.SIGKILL) }

func (h *Host) end(sig syscall.Signal) {
	if h.daemon == nil {
		return
	}
	h.daemon.Process.Signal(sig) // has ended already: nothing to do
	<-h.exited
	h.daemon = nil
}

// LogTail returns the end of the daemon's log, without the requests that went well.
func (h *Host) LogTail(n int) string {
	path := filepath.Join(h.Dir, "daemon.log")
	if h.log != nil {
		path = h.log.Name()
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	var told []byte
	for line := range bytes.Lines(b) {
		if !bytes.Contains(line, []byte(`level=DEBUG msg="request answered"`)) { // most are of who waits for something
			told = append(told, line...)
		}
	}
	return string(told[max(0, len(told)-n):])
}

// Close removes every sandbox, ends the daemon and removes the state
// directory. It reports what the daemon left behind on the host.
func (h *Host) Close() error {
	var errs []error
	if h.daemon != nil {
		if r := h.CLI("ls", "--output", "json"); r.Code == 0 {
			var boxes []client.Sandbox
			if err := json.Unmarshal([]byte(r.Stdout), &boxes); err != nil {
				errs = append(errs, err)
			}
			for _, b := range boxes {
				if r := h.CLI("rm", "-f", b.ID); r.Code != 0 {
					errs = append(errs, errors.New(r.Stderr))
				}
			}
		}
		h.Stop()
	}
	if left := h.left(); left != "" {
		errs = append(errs, fmt.Errorf("daemon left behind: %s", left))
	}
	if r := h.CLI("debug", "release", "--state-dir", h.Dir); r.Code != 0 {
		errs = append(errs, errors.New(r.Stderr))
	}
	errs = append(errs, h.log.Close(), os.RemoveAll(h.Dir), h.unguard())
	return errors.Join(errs...)
}

// left names mounts and cages that still refer to the state directory.
func (h *Host) left() string {
	var found []string
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, h.Dir) {
			found = append(found, "mount "+line)
		}
	}
	cages, err := filepath.Glob("/run/bulkhead/uids/[0-9]*")
	if err != nil {
		return err.Error()
	}
	for _, lease := range cages {
		b, _ := os.ReadFile(lease) // those of other daemons may go meanwhile
		if bytes.Contains(b, []byte(`"`+h.Dir+"/")) {
			found = append(found, "cage "+lease)
		}
	}
	return strings.Join(found, ", ")
}

// Result is what a command printed and how it ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Command is the command line against this host's daemon, not yet started.
func (h *Host) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, h.Bin, args...)
	cmd.Env = append(os.Environ(), "BULKHEAD_SOCKET="+h.Socket())
	return cmd
}

// CLI runs the command line against this host's daemon.
func (h *Host) CLI(args ...string) Result { return h.CLIWith("", args...) }

// CLIWith is CLI with text on standard input.
func (h *Host) CLIWith(stdin string, args ...string) Result {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	cmd := h.Command(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errw bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errw
	err := cmd.Run()
	r := Result{Stdout: out.String(), Stderr: errw.String()}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		r.Code, r.Stderr = -1, r.Stderr+"\n(no end within "+Patience.String()+")"
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
	case err != nil:
		r.Code, r.Stderr = -1, err.Error()
	}
	return r
}

// Must is CLI for commands that have to succeed; it returns what they print.
func (h *Host) Must(args ...string) string {
	h.tb.Helper()
	r := h.CLI(args...)
	if r.Code != 0 {
		h.tb.Fatalf("bulkhead %s: exit code %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// JSON runs a command with --output json and decodes what it prints into v.
func (h *Host) JSON(v any, args ...string) {
	h.tb.Helper()
	out := h.Must(append(args, "--output", "json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		h.tb.Fatalf("bulkhead %s printed no JSON: %v\n%s", strings.Join(args, " "), err, out)
	}
}
