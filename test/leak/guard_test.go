package leak_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"bulkhead/test/leak"
)

// TestMain also is the test binary that is killed: it starts a guard and then
// waits for its end.
func TestMain(m *testing.M) {
	dir := os.Getenv("LEAK_TEST_VICTIM")
	if dir == "" {
		os.Exit(m.Run())
	}
	if _, err := leak.Guard(dir, "rm", "-r", dir); err != nil {
		panic(err)
	}
	log := filepath.Join(dir, "log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		panic(err)
	}
	tail := exec.Command("tail", "-f", log)
	tail.Stderr = os.Stderr
	if err := tail.Start(); err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stderr, "ready")
	panic(tail.Wait())
}

func TestGuardCleansUpAfterItsParentWasKilled(t *testing.T) {
	leak.Check(t)
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), "LEAK_TEST_VICTIM="+dir)
	// What the victim starts holds the pipe too, so its end is theirs.
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	victim.Stderr = w
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		t.Fatalf("victim: %q, %v", line, err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("folder is gone while its owner lives: %v", err)
	}
	end(victim)
	if rest, err := io.ReadAll(lines); err != nil {
		t.Fatalf("after the victim: %q, %v", rest, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folder of the victim: %v, want it removed", err)
	}
}

func TestGuardDoesNothingWhenDismissed(t *testing.T) {
	leak.Check(t)
	dir := t.TempDir()
	t.Run("while it guards", func(t *testing.T) { leak.Guardian(t, dir, "rm", "-r", dir) })
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("folder after its guard was dismissed: %v", err)
	}
}
