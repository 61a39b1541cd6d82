package boot_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"bulkhead/internal/guestd/boot"
	"bulkhead/test/leak"

	"golang.org/x/sys/unix"
)

const roleKey = "BOOT_TEST_ROLE"

// What an init does would harm the host. So these tests run this binary again
// in namespaces of its own, and that starts it a third time as the agent.
func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Args[0] == boot.AgentPath:
		err = agent()
	case os.Getenv(roleKey) == "init":
		boot.Init("/proc/self/exe")
	case os.Getenv(roleKey) == "prepare":
		err = prepared()
	case os.Getenv(roleKey) == "network":
		err = joined()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// agent stands in for the agent. It says that it is there, and then does what
// each line of its input asks.
func agent() error {
	fmt.Println("agent", os.Getenv("PATH"))
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		verb, arg, _ := strings.Cut(in.Text(), " ")
		n, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		switch verb {
		case "orphans":
			if err := makeOrphans(n); err != nil {
				return err
			}
			fmt.Println("reaped")
		case "signal":
			if err := unix.Kill(1, unix.Signal(n)); err != nil {
				return err
			}
			fmt.Println("sent")
		case "die":
			return unix.Kill(os.Getpid(), unix.Signal(n))
		}
	}
	return in.Err()
}

// makeOrphans makes n processes whose parent does not wait for them, and
// waits until the kernel no longer knows any.
func makeOrphans(n int) error {
	out, err := exec.Command("/bin/sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do : & echo $!; i=$((i+1)); done", n)).Output()
	if err != nil {
		return err
	}
	pids := strings.Fields(string(out))
	if len(pids) != n {
		return fmt.Errorf("made %d orphans, want %d", len(pids), n)
	}
	for _, s := range pids {
		pid, err := strconv.Atoi(s)
		if err != nil {
			return err
		}
		for !errors.Is(unix.Kill(pid, 0), unix.ESRCH) { // a zombie still takes signals
			runtime.Gosched()
		}
	}
	return nil
}

// machine is an init in process and control of a test.
type machine struct {
	*exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

func startMachine(t *testing.T) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making namespaces needs root")
	}
	leak.Check(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), roleKey+"=init")
	cmd.Stderr = os.Stderr
	runtime.LockOSThread() // Pdeathsig is about the thread, not the process
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Pdeathsig: unix.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() // most have ended
		cmd.Wait()
	})
	m := &machine{Cmd: cmd, in: in, out: bufio.NewReader(out)}
	m.wantAgent(t)
	return m
}

func (m *machine) want(t *testing.T, want string) {
	t.Helper()
	if got, err := m.out.ReadString('\n'); err != nil || strings.TrimSpace(got) != want {
		t.Fatalf("agent says %q, error %v, want %q", got, err, want)
	}
}

// wantAgent waits for a fresh agent, with the environment of a service.
func (m *machine) wantAgent(t *testing.T) {
	t.Helper()
	m.want(t, "agent /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

func (m *machine) ask(t *testing.T, verb string, arg int) {
	t.Helper()
	if _, err := fmt.Fprintln(m.in, verb, arg); err != nil {
		t.Fatal(err)
	}
}

func TestInitKeepsTheAgent(t *testing.T) {
	m := startMachine(t)
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGKILL} {
		m.ask(t, "die", int(sig))
		m.wantAgent(t)
	}
}

func TestInitReapsOrphans(t *testing.T) {
	m := startMachine(t)
	for range 3 {
		m.ask(t, "orphans", 50)
		m.want(t, "reaped")
		m.ask(t, "die", int(unix.SIGKILL))
		m.wantAgent(t)
	}
}

func TestInitOutlivesStraySignals(t *testing.T) {
	m := startMachine(t)
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGQUIT, unix.SIGSEGV, unix.SIGABRT, unix.SIGPIPE, unix.SIGALRM, 64} {
		m.ask(t, "signal", int(sig))
		m.want(t, "sent")
	}
	m.ask(t, "orphans", 1)
	m.want(t, "reaped")
}

// The kernel tells the parent of a PID namespace by a signal what the init in
// there asked of reboot(2) (pid_namespaces(7)).
func TestInitEndsTheMachine(t *testing.T) {
	const restart, end = unix.SIGHUP, unix.SIGINT
	for _, tt := range []struct {
		name string
		sig  unix.Signal
		want unix.Signal
	}{
		{"reboot of busybox restarts", unix.SIGTERM, restart},
		{"Ctrl-Alt-Del restarts", unix.SIGINT, restart},
		{"poweroff of busybox powers off", unix.SIGUSR2, end},
		{"halt of busybox powers off", unix.SIGUSR1, end},
		{"a power failure powers off", unix.SIGPWR, end},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := startMachine(t)
			m.ask(t, "signal", int(tt.sig))
			var exit *exec.ExitError
			if err := m.Wait(); !errors.As(err, &exit) {
				t.Fatalf("init ended with %v", err)
			}
			if got := exit.Sys().(syscall.WaitStatus); !got.Signaled() || got.Signal() != tt.want {
				t.Errorf("init ended with %v, want %v", exit, tt.want)
			}
		})
	}
}

// An image without an init gets control groups, terminals, shared memory, the
// usual names of descriptors and a loopback.
func TestPrepare(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	leak.Check(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--cgroup", "--net", exe)
	cmd.Env = append(os.Environ(), roleKey+"=prepare")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// prepared runs with mounts and a network of its own.
func prepared() error {
	for _, dir := range []string{"/sys/fs/cgroup", "/dev"} {
		unix.Unmount(dir, unix.MNT_DETACH) // as a kernel leaves it, on any host
	}
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := boot.Prepare(); err != nil {
		return err
	}
	for _, path := range []string{"/sys/fs/cgroup/cgroup.procs", "/dev/pts/ptmx", "/dev/shm", "/dev/fd/2", "/dev/stderr"} {
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return fmt.Errorf("use the loopback: %w", err)
	}
	return c.Close()
}
