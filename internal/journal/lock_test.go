package journal_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/journal"
)

// holderEnv makes the test binary a process that holds the lock of a state
// directory until its input ends.
const holderEnv = "BULKHEAD_TEST_LOCK_HOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holderEnv); dir != "" {
		_, err := journal.AcquireLock(dir)
		fmt.Println("held", err)
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hold starts a process that holds dir's lock and returns when it does.
func hold(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderEnv+"="+dir)
	stdin, err := cmd.StdinPipe()
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
		_ = stdin.Close()
		_ = cmd.Wait() // killed by the test, or ends with its input
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if got, want := line, "held <nil>\n"; err != nil || got != want {
		t.Fatalf("holder says %q, %v; want %q", got, err, want)
	}
	return cmd
}

func TestLockRefusesSecondDaemonUntilFirstIsKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	holder := hold(t, dir)

	_, err := journal.AcquireLock(dir)
	if !fault.Is(err, fault.Unavailable) {
		t.Fatalf("second AcquireLock = %v, want a fault of kind %s", err, fault.Unavailable)
	}
	want := fmt.Sprintf("state directory %s is in use by process %d", dir, holder.Process.Pid)
	if got := err.Error(); got != want {
		t.Errorf("error = %q, want %q", got, want)
	}

	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Process.Wait(); err != nil {
		t.Fatal(err)
	}
	l, err := journal.AcquireLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	release(t, l)
}

func release(t *testing.T, l *journal.Lock) {
	t.Helper()
	for range 2 {
		if err := l.Release(); err != nil {
			t.Error(err)
		}
	}
}

func TestLockIsNotInheritedByChildren(t *testing.T) {
	dir := t.TempDir()
	l, err := journal.AcquireLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("cat")
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	release(t, l)
	next, err := journal.AcquireLock(dir)
	if err != nil {
		t.Errorf("lock while a child of the last holder runs: %v", err)
	} else {
		release(t, next)
	}
	if err := stdin.Close(); err != nil {
		t.Error(err)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}

func TestLockWithoutReadablePIDStillRefuses(t *testing.T) {
	dir := t.TempDir()
	l, err := journal.AcquireLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release(t, l)
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte(strings.Repeat("9", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = journal.AcquireLock(dir)
	if err == nil || !strings.HasSuffix(err.Error(), "in use by another process") {
		t.Errorf("AcquireLock = %v, want another process named as the holder", err)
	}
}

func TestLockMakesPrivateStateDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	l, err := journal.AcquireLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release(t, l)
	fi, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fi.Mode().Perm(), os.FileMode(0o700); got != want {
		t.Errorf("mode = %v, want %v", got, want)
	}
}

// A daemon that was killed while it started a program has left a child with its
// lock, for a moment.
func TestLockWaitsForAChildOfTheDead(t *testing.T) {
	dir := t.TempDir()
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, dead.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sleep", "0.3")
	child.ExtraFiles = []*os.File{f}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	l, err := journal.AcquireLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	release(t, l)
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}
