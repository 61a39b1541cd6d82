package cli_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"bulkhead/internal/cli"
	"bulkhead/internal/config"
	"bulkhead/internal/fault"
	"bulkhead/internal/guestd/process"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestMain makes the test binary three programs: the tests, the command line
// for the scripts, and the guest agent's stand-in.
func TestMain(m *testing.M) {
	process.StandIn()
	testscript.Main(m, map[string]func(){"bulkhead": bulkhead})
}

func bulkhead() {
	os.Exit(cli.Report(env(), os.Args[1:], cli.New(env()).ExecuteContext(context.Background())))
}

// env has the commands that need no daemon tell what they were given.
func env() cli.Env {
	return cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Version: "1.2.3",
		Serve: func(_ context.Context, c config.Config) error {
			fmt.Println("serve", c.StateDir, c.Socket, c.Accel)
			return nil
		},
		Doctor: func(_ context.Context, c config.Config) []cli.Check {
			checks := []cli.Check{{Name: "accelerator", Status: "warn", Detail: "no /dev/kvm: guests are slow", Mend: "modprobe kvm_intel"}}
			if c.StateDir == "/broken" {
				checks = append(checks, cli.Check{Name: "storage", Status: "fail", Detail: "no room"})
			}
			return checks
		},
		Release: func(_ context.Context, c config.Config, force bool) error {
			if c.StateDir == "/busy" && !force {
				return fault.New(fault.WrongState, "a daemon uses %s", c.StateDir).Hint("bulkhead debug release --force")
			}
			fmt.Println("release", c.StateDir, force)
			return nil
		},
	}
}

// TestScripts runs testdata/script: what users of each command see.
func TestScripts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the guest's programs run as root on this host, and this is not root")
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			dir, err := os.MkdirTemp("", "cli") // a socket's path must be short
			if err != nil {
				return err
			}
			w, shut, err := open(dir)
			if err != nil {
				return err
			}
			e.Defer(func() {
				if err := errors.Join(shut(), os.RemoveAll(dir)); err != nil {
					t.Error(err)
				}
			})
			e.Setenv("BULKHEAD_SOCKET", w.socket)
			e.Setenv("URL", w.url)
			e.Setenv("GUEST", dir+"/home")
			e.Setenv("CONSOLE", dir+"/console.log")
			e.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "withkey": withKey, "narrow": narrow, "bytes": writeBytes,
		},
	})
}

// exits runs a command that must end with a code: exits 3 bulkhead ls
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("run: %v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("got exit code %d, want %s", got, args[0])
	}
}

// withKey runs a command with the key that a file holds: withkey FILE bulkhead ls
func withKey(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: withkey FILE COMMAND...")
	}
	ts.Setenv("BULKHEAD_API_KEY", strings.TrimSpace(ts.ReadFile(args[0])))
	defer ts.Setenv("BULKHEAD_API_KEY", "")
	if err := ts.Exec(args[1], args[2:]...); (err != nil) != neg {
		ts.Fatalf("ended with %v", err)
	}
}

// narrow checks that no line of a file has more than 80 columns.
func narrow(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: narrow FILE")
	}
	for _, line := range strings.Split(ts.ReadFile(args[0]), "\n") {
		if n := utf8.RuneCountInString(line); n > 80 {
			ts.Fatalf("%d columns: %s", n, line)
		}
	}
}

// writeBytes writes a file of quoted text: bytes FILE 'a\x1b'
func writeBytes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: bytes FILE TEXT")
	}
	text, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
}

// TestHelp checks what the help of every command has, and that it is the one
// in testdata/help.golden; -update rewrites it.
func TestHelp(t *testing.T) {
	var all bytes.Buffer
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Name() == "completion" || c.Name() == "help" {
			return // cobra's
		}
		if !c.HasSubCommands() && !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: example %q does not show it", c.CommandPath(), c.Example)
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Runnable() && !c.HasSubCommands() && !strings.HasSuffix(c.Long, ".") {
			t.Errorf("%s: texts %q and %q", c.CommandPath(), c.Short, c.Long)
		}
		fmt.Fprintf(&all, "$ %s --help\n", c.CommandPath())
		c.SetOut(&all)
		if err := c.Help(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&all)
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(cli.New(env()))
	const golden = "testdata/help.golden"
	if *update {
		if err := os.WriteFile(golden, all.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), all.String()); diff != "" {
		t.Errorf("help (-want +got), see -update:\n%s", diff)
	}
}
