// Package app is what all commands of the command line share: the flags that
// every one has, the client of the daemon, answers and talk.
//
// app must not know any command. An App is one run, of one goroutine.
package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"bulkhead/client"
	"bulkhead/client/remote"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/cli/tty"
	"bulkhead/internal/config"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Env is what the commands work with.
type Env struct {
	Stdin          *os.File
	Stdout, Stderr io.Writer
	// Getenv reads the environment.
	Getenv  func(string) string
	Version string

	// Serve runs the daemon until ctx ends.
	Serve func(ctx context.Context, c config.Config) error
	// Doctor checks this host.
	Doctor func(ctx context.Context, c config.Config) []Check
	// Attack tries to get out of the cages of this host, one attempt after
	// the other. With victim, a running sandbox, they aim at that.
	Attack func(ctx context.Context, c config.Config, victim *client.Sandbox, report func(Finding)) error
	// Release ends what a dead daemon left on the host; with force, a daemon
	// that lives is ended first.
	Release func(ctx context.Context, c config.Config, force bool) error
}

// Check is one finding about the host.
type Check struct {
	Name string `json:"name"`
	// Status is "ok", "warn" or "fail".
	Status string `json:"status"`
	Detail string `json:"detail"`
	// Mend is the command that mends it, if there is one.
	Mend string `json:"mend,omitempty"`
}

// Finding is how one attempt to get out of a cage went.
type Finding struct {
	Attempt string `json:"attempt"`
	// Expected is the wall that must stop it, Got the one that did, and
	// Unfiltered the one that does without the filter of system calls; "" if
	// none does.
	Expected   string `json:"expected"`
	Got        string `json:"got"`
	Unfiltered string `json:"unfiltered,omitempty"`
	// Useless says why the attempt shows nothing on this host.
	Useless string `json:"useless,omitempty"`
	Holds   bool   `json:"holds"`
}

// App is one run of the command line.
type App struct {
	Env
	// Output is "text" or "json".
	Output string
	// API speaks to the daemon; set by Ask.
	API *client.Client

	socket, url, configFile, stateDir string
	// warned is set once the user has been told about a missing boundary.
	warned bool
}

// Flags adds the flags that every command has.
func (a *App) Flags(f *pflag.FlagSet) {
	f.StringVar(&a.socket, "socket", "", "the daemon's socket (BULKHEAD_SOCKET, then the configuration)")
	f.StringVar(&a.url, "url", "", "another host's daemon (BULKHEAD_URL), with the key in BULKHEAD_API_KEY")
	f.StringVarP(&a.Output, "output", "o", "text", "form of answers and failures: text or json")
	f.StringVar(&a.configFile, "config", "", "configuration file ("+config.DefaultFile+")")
	f.StringVar(&a.stateDir, "state-dir", "", "the daemon's state directory")
}

// Config reads the configuration with the flags of this run over it.
func (a *App) Config(override map[string]string) (config.Config, error) {
	if a.stateDir != "" {
		override["state_dir"] = a.stateDir
	}
	if a.socket != "" {
		override["socket"] = a.socket
	}
	return config.Load(config.Source{File: a.configFile, Override: override})
}

// Client returns a client of the daemon that flags, environment and
// configuration name, in this order.
func (a *App) Client() (*client.Client, error) {
	url := a.url
	if url == "" && a.socket == "" && a.stateDir == "" {
		url = a.Getenv("BULKHEAD_URL")
	}
	if url != "" {
		return remote.Dial(remote.Host{URL: url, Key: a.Getenv("BULKHEAD_API_KEY")})
	}
	socket := a.socket
	if socket == "" && a.stateDir == "" {
		socket = a.Getenv("BULKHEAD_SOCKET")
	}
	if socket == "" {
		cfg, err := a.Config(map[string]string{})
		if err != nil {
			return nil, err
		}
		socket = cfg.Socket
	}
	return client.New(socket), nil
}

// Ask makes run a RunE; it runs with a.API set.
func (a *App) Ask(run func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) (err error) {
		if a.API, err = a.Client(); err != nil {
			return err
		}
		defer a.API.Close()
		return run(c.Context(), args)
	}
}

// Answer prints v as JSON, or has text print it for people. Nothing of either can
// steer a terminal, whoever chose the names in it.
func (a *App) Answer(v any, text func(io.Writer)) error {
	if a.Output == "json" {
		return show.JSON(a.Stdout, v, true)
	}
	w := tabwriter.NewWriter(show.Plain(a.Stdout), 0, 8, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// Silence is the text of answers that are worth no words.
func Silence(io.Writer) {}

// Say talks to the user; it is no answer. Nothing of it can steer a terminal.
func (a *App) Say(format string, args ...any) {
	fmt.Fprintf(show.Plain(a.Stderr), format+"\n", args...)
}

// WarnBoundary says once that guests are not behind a hardware boundary.
func (a *App) WarnBoundary(accel string) {
	if accel == "tcg" && !a.warned {
		a.warned = true
		a.Say("note: guests run in QEMU's translator (TCG): slow, and no hardware boundary")
	}
}

// ByHand reports whether somebody sits at standard input.
func (a *App) ByHand() bool { return tty.Is(a.Stdin) }

// maxHidden bounds what Hidden reads; the daemon takes 16 KiB.
const maxHidden = 16<<10 + 2

// Hidden reads what must not be on a command line, where everybody on the host
// could read it: from standard input, without showing it if somebody types.
func (a *App) Hidden(what string) (string, error) {
	if a.ByHand() {
		fmt.Fprintf(a.Stderr, "%s (not shown): ", what)
		value, err := tty.Password(a.Stdin)
		fmt.Fprintln(a.Stderr)
		return value, err
	}
	b, err := io.ReadAll(io.LimitReader(a.Stdin, maxHidden))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", what, err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}
