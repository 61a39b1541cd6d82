package image_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/image"
	"bulkhead/test/leak"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	var got []string
	l := image.NewLines(func(line string) { got = append(got, line) })
	for _, chunk := range []string{
		"one\ntw", "o\r\n", "10%\r20%\r", "\x1b[31mred\x1b[0m\tend\n", "  \n", "\xff\xfebad\n",
		strings.Repeat("x", 3*image.MaxLine), strings.Repeat("y", image.MaxLine) + "\n", "last",
	} {
		if n, err := l.Write([]byte(chunk)); n != len(chunk) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	l.Flush()
	l.Flush()
	want := []string{"one", "two", "10%", "20%", "[31mred [0m end", "bad", strings.Repeat("x", image.MaxLine), "last"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	want[len(want)-2] = strings.Repeat("x", image.LastBytes)
	if diff := cmp.Diff(want[len(want)-image.LastLines:], l.Last()); diff != "" {
		t.Errorf("last lines (-want +got):\n%s", diff)
	}
}

func TestRunShowsTheLastLinesOfAFailure(t *testing.T) {
	leak.Check(t)
	var told []string
	err := image.Run(t.Context(), t.TempDir(), func(line string) { told = append(told, line) },
		"sh", "-c", "seq 1 20; echo broken >&2; exit 3")
	want := "run sh: exit status 3: 16 | 17 | 18 | 19 | 20 | broken"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if got, want := len(told), 21; got != want {
		t.Errorf("%d lines told, want %d", got, want)
	}
}

func TestRunNamesThePackageOfAMissingProgram(t *testing.T) {
	for _, tool := range image.Tools() {
		if tool.Package == "" || tool.Name == "" {
			t.Errorf("tool %+v is incomplete", tool)
		}
	}
	err := image.Run(t.Context(), t.TempDir(), nil, "no-such-program")
	if err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("error %v, want one that names the program", err)
	}
}

func TestRunHidesTheEnvironment(t *testing.T) {
	t.Setenv("BULKHEAD_SECRET", "hunter2")
	t.Setenv("http_proxy", "http://proxy.example:3128")
	var env []string
	err := image.Run(t.Context(), t.TempDir(), func(line string) { env = append(env, line) }, "env")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(env, "\n")
	if strings.Contains(all, "hunter2") || !strings.Contains(all, "http_proxy=http://proxy.example:3128") {
		t.Errorf("environment is\n%s", all)
	}
}

// A program that is cancelled takes with it what it has started, even what
// has left its process group, and what it has mounted.
func TestRunEndsEverythingWhenCancelled(t *testing.T) {
	leak.Check(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	script := `mkdir m && mount -t tmpfs none m && touch m/inside &&
		{ setsid sh -c 'exec 3>lock; flock 3; echo ready; exec sleep 1000' & } && wait && sleep 1000`
	var told []string
	err := image.Run(ctx, dir, func(line string) {
		told = append(told, line)
		cancel()
	}, "sh", "-c", script)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want it cancelled", err)
	}
	if diff := cmp.Diff([]string{"ready"}, told); diff != "" {
		t.Fatalf("output (-want +got):\n%s", diff)
	}
	// The lock that the grandchild held can be had: it is gone by now.
	if err := image.Run(t.Context(), dir, nil, "flock", "--nonblock", "lock", "true"); err != nil {
		t.Errorf("grandchild still runs: %v", err)
	}
	// Nothing is mounted any more, not even out of our sight.
	if err := os.Remove(filepath.Join(dir, "m")); err != nil {
		t.Errorf("mount is left: %v", err)
	}
}

// childDir is the variable that makes this test binary a program that runs
// something in a folder and waits for it.
const childDir = "BULKHEAD_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		err := image.Run(context.Background(), dir, func(line string) { fmt.Println(line) },
			"sh", "-c", "setsid sh -c 'exec 3>lock; flock 3; echo ready; exec sleep 1000' & wait")
		fmt.Println("run came back:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestRunEndsEverythingWhenWeAreKilled(t *testing.T) {
	leak.Check(t)
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if kerr := cmd.Process.Kill(); kerr != nil {
		t.Fatal(kerr)
	}
	cmd.Wait()
	if line != "ready\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	if err := image.Run(t.Context(), dir, nil, "flock", "--timeout=20", "lock", "true"); err != nil {
		t.Errorf("grandchild still runs: %v", err)
	}
}

func TestRunDoesNothingWhenCancelledBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if err := image.Run(ctx, dir, nil, "touch", "made"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want it cancelled", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "made")); !os.IsNotExist(err) {
		t.Errorf("it ran all the same: %v", err)
	}
}

func TestToolsAreInstalledByTheirPackages(t *testing.T) {
	for _, tool := range image.Tools() {
		var owner []string
		err := image.Run(t.Context(), t.TempDir(), func(line string) { owner = append(owner, line) },
			"dpkg-query", "--search", "*/"+tool.Name)
		want := fmt.Sprintf("%s: ", tool.Package)
		if err != nil || !strings.Contains(strings.Join(owner, "\n"), want) {
			t.Errorf("%s does not come from %s: %v", tool.Name, tool.Package, err)
		}
	}
}
