// Package cli is the command line: one file per command, each a thin layer
// over package client.
//
// Standard output is for answers, standard error for talk. With --output json
// every answer is JSON, errors included. An error is one line that names the
// thing, and a hint with the way out.
//
// cli is a client like any other: it must not import the daemon. What runs in
// this very process (the daemon itself, the host's check-up) comes as functions
// in Env.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"bulkhead/client"
	"bulkhead/internal/cli/show"
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

// app is one run of the command line.
type app struct {
	Env
	socket, output, configFile, stateDir string
	// warned is set once the user has been told about a missing boundary.
	warned bool
}

// New returns the command tree.
func New(env Env) *cobra.Command {
	a := &app{Env: env}
	root := &cobra.Command{
		Use:   "bulkhead",
		Short: "A whole computer with root for every agent, and a way back",
		Long: "Bulkhead runs each agent in a microVM of its own, with root inside, and can\n" +
			"roll the whole machine back to any snapshot.\n\n" + exitStatusHelp(),
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	f := root.PersistentFlags()
	f.StringVar(&a.socket, "socket", "", "the daemon's socket (BULKHEAD_SOCKET, then the configuration)")
	f.StringVarP(&a.output, "output", "o", "text", "form of answers: text or json")
	f.StringVar(&a.configFile, "config", "", "configuration file ("+config.DefaultFile+")")
	f.StringVar(&a.stateDir, "state-dir", "", "the daemon's state directory")
	root.SetFlagErrorFunc(badUsage)
	for _, c := range []func(*app) *cobra.Command{
		newCreate, newLs, newInspect, newExec, newShell, newCp, newLogs,
		newSnapshot, newTimeline, newRollback, newStart, newRm, newRun,
		newTemplate, newEvents, newDoctor, newServe, newVersion, newDebug,
	} {
		root.AddCommand(c(a))
	}
	a.checkUsage(root)
	for _, c := range root.Commands() {
		switch c.Name() {
		case "exec", "shell", "run":
			failsAsExec(c)
		}
	}
	return root
}

// usageError marks a command line that makes no sense, as against one that
// could not be carried out.
type usageError struct {
	error
	hint string // may be empty
}

func (e usageError) Unwrap() error { return e.error }

func badUsage(c *cobra.Command, err error) error {
	return usageError{err, c.CommandPath() + " --help"}
}

// checkUsage makes the errors of argument checks usage errors, and has every
// command check --output too.
func (a *app) checkUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			err := check(c, args)
			if err == nil && a.output != "text" && a.output != "json" {
				err = fmt.Errorf("--output %q is neither text nor json", a.output)
			}
			if err != nil {
				return badUsage(c, err)
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		a.checkUsage(sub)
	}
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

// client returns a client of the daemon that the flags name.
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

// ask makes what a command does with the daemon its RunE.
func (a *app) ask(do func(c *cobra.Command, cl *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		return do(c, cl, args)
	}
}

// answer prints v as JSON, or has text print it for people.
func (a *app) answer(v any, text func(io.Writer)) error {
	if a.output == "json" {
		e := json.NewEncoder(a.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(a.Stdout, 0, 8, 2, ' ', 0)
	text(w)
	return w.Flush()
}

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

// exitError ends the program with a code and no message: the command inside a
// sandbox has said what there is to say.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// Report tells the user of an error, in the form that args ask for, and
// returns the exit code.
func Report(env Env, args []string, err error) int {
	if err == nil {
		return 0
	}
	var exit exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	code, kind, hint := classify(err)
	if wantsJSON(args) {
		e := json.NewEncoder(env.Stderr)
		e.Encode(client.Error{Code: code, Message: show.OneLine(err.Error()), Kind: kind, Hint: hint})
		return code
	}
	fmt.Fprintf(env.Stderr, "bulkhead: %s\n", show.OneLine(err.Error()))
	if hint != "" {
		fmt.Fprintf(env.Stderr, "hint: %s\n", show.OneLine(hint))
	}
	return code
}

// wantsJSON looks for --output json among args: an error may come before the
// flags have been read.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		switch arg {
		case "--output=json", "-o=json", "-ojson":
			return true
		case "--output", "-o":
			return i+1 < len(args) && args[i+1] == "json"
		case "--":
			return false
		}
	}
	return false
}
