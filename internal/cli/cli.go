// Package cli is the command line: one file per command, each a thin layer
// over package client.
//
// Standard output is for answers, standard error for talk. With --output json
// every answer is JSON, failures included (report.go). An error is one line
// that names the thing, and a hint with the way out. What comes from a guest
// goes through package show before a terminal sees it, except from exec, run
// and shell, where it is the program that the user wanted to talk to.
//
// cli is a client like any other: it must not import the daemon. What runs in
// this very process (the daemon itself, the host's check-up) comes as functions
// in Env. A command tree is run once, by one goroutine.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"bulkhead/client"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/cli/tty"
	"bulkhead/internal/config"

	"github.com/spf13/cobra"
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

// app is one run of the command line.
type app struct {
	Env
	socket, output, configFile, stateDir string
	// api speaks to the daemon; set by ask.
	api *client.Client
	// warned is set once the user has been told about a missing boundary.
	warned bool
}

// New returns the command tree. Its errors are for Report.
func New(env Env) *cobra.Command {
	a := &app{Env: env}
	root := &cobra.Command{
		Use:   "bulkhead",
		Short: "A whole computer with root for every agent, and a way back",
		Long: "Bulkhead runs each agent in a microVM of its own, with root inside, and can\n" +
			"roll the whole machine back to any snapshot. A sandbox goes by its name, its id or\n" +
			"a unique prefix of that.",
		SilenceErrors: true, SilenceUsage: true,
		Example: "  bulkhead serve &\n  bulkhead template build base\n  bulkhead create base --name otter\n" +
			"  bulkhead shell otter",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	f := root.PersistentFlags()
	f.StringVar(&a.socket, "socket", "", "the daemon's socket (BULKHEAD_SOCKET, then the configuration)")
	f.StringVarP(&a.output, "output", "o", "text", "form of answers and failures: text or json")
	f.StringVar(&a.configFile, "config", "", "configuration file ("+config.DefaultFile+")")
	f.StringVar(&a.stateDir, "state-dir", "", "the daemon's state directory")
	for _, newCommand := range []func(*app) *cobra.Command{
		newCreateCommand, newLsCommand, newInspectCommand, newExecCommand, newShellCommand,
		newCpCommand, newLogsCommand, newSnapshotCommand, newTimelineCommand, newRollbackCommand,
		newStartCommand, newRmCommand, newRunCommand, newTemplateCommand, newEventsCommand,
		newDoctorCommand, newServeCommand, newVersionCommand, newDebugCommand,
	} {
		root.AddCommand(newCommand(a))
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.SetHelpTemplate(helpTemplate)
	a.adopt(root)
	return root
}

// config reads the configuration with the flags of this run over it.
func (a *app) config(override map[string]string) (config.Config, error) {
	if a.stateDir != "" {
		override["state_dir"] = a.stateDir
	}
	if a.socket != "" {
		override["socket"] = a.socket
	}
	return config.Load(config.Source{File: a.configFile, Override: override})
}

// client returns a client of the daemon that flags, environment and
// configuration name, in this order.
func (a *app) client() (*client.Client, error) {
	socket := a.socket
	if socket == "" && a.stateDir == "" {
		socket = a.Getenv("BULKHEAD_SOCKET")
	}
	if socket == "" {
		cfg, err := a.config(map[string]string{})
		if err != nil {
			return nil, err
		}
		socket = cfg.Socket
	}
	return client.New(socket), nil
}

// ask makes run a RunE; it runs with a.api set.
func (a *app) ask(run func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) (err error) {
		if a.api, err = a.client(); err != nil {
			return err
		}
		defer a.api.Close()
		return run(c.Context(), args)
	}
}

// answer prints v as JSON, or has text print it for people.
func (a *app) answer(v any, text func(io.Writer)) error {
	if a.output == "json" {
		return show.JSON(a.Stdout, v, true)
	}
	w := tabwriter.NewWriter(a.Stdout, 0, 8, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// silence is the text of answers that are worth no words.
func silence(io.Writer) {}

// say talks to the user; it is no answer.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.Stderr, format+"\n", args...)
}

// warnBoundary says once that guests are not behind a hardware boundary.
func (a *app) warnBoundary(accel string) {
	if accel == "tcg" && !a.warned {
		a.warned = true
		a.say("note: guests run in QEMU's translator (TCG): slow, and no hardware boundary")
	}
}

// byHand reports whether somebody sits at standard input.
func (a *app) byHand() bool { return tty.Is(a.Stdin) }
