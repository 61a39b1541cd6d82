package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/tty"
	"bulkhead/internal/fault"

	"github.com/spf13/cobra"
)

// execOptions are those of exec, shell and run.
type execOptions struct {
	user, dir   string
	env         []string
	interactive bool
	terminal    bool
}

func (o *execOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.SetInterspersed(false) // the flags behind the sandbox are the command's
	f.StringVarP(&o.user, "user", "u", "root", "user inside")
	f.StringVarP(&o.dir, "workdir", "w", "", "directory inside (the user's home)")
	f.StringArrayVarP(&o.env, "env", "e", nil, "variable for the command, KEY=VALUE")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "pass standard input on")
	f.BoolVarP(&o.terminal, "tty", "t", false, "give the command a terminal")
}

func newExecCommand(a *app.App) *cobra.Command {
	var o execOptions
	c := &cobra.Command{
		Use:   "exec [flags] SANDBOX -- COMMAND [ARG...]",
		Short: "Run a command in a sandbox",
		Long: "Run a command in a sandbox, as root unless told otherwise; output streams as it\n" +
			"comes. Ctrl-C asks the command to end, a second one kills it, a third stops waiting.",
		Example: "  bulkhead exec otter -- systemctl status\n  bulkhead exec -it otter -- bash",
		Args:    cobra.MinimumNArgs(2), Annotations: passes(),
		DisableFlagsInUseLine: true, ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error { return runExec(ctx, a, o, args) }),
	}
	o.addFlags(c)
	return c
}

// runExec runs args[1:] in the sandbox args[0]. A command that ends with
// another code than 0 is an exitError.
func runExec(ctx context.Context, a *app.App, o execOptions, args []string) error {
	argv, err := commandOf(args)
	if err != nil {
		return err
	}
	env, err := pairs(o.env)
	if err != nil {
		return err
	}
	e := client.Exec{
		Sandbox: args[0], Cmd: argv[0], Args: argv[1:], User: o.user, Dir: o.dir, Env: env,
		Stdout: a.Stdout, Stderr: a.Stderr,
	}
	if o.interactive {
		e.Stdin = a.Stdin
	}
	if o.terminal {
		giveBack, err := lendTerminal(a, &e)
		if err != nil {
			return err
		}
		defer giveBack()
	}
	ctx, stop := tty.Signals(ctx, &e)
	defer stop()
	code, err := a.API.Exec(ctx, e)
	switch {
	case errors.Is(err, syscall.EPIPE):
		return exitError{128 + int(syscall.SIGPIPE)}
	case err != nil:
		return err
	case code != 0:
		return exitError{code}
	}
	return nil
}

// commandOf returns the command that follows the first argument, with or
// without "--" in between.
func commandOf(args []string) ([]string, error) {
	argv := args[1:]
	if argv[0] == "--" && len(argv) > 1 {
		return argv[1:], nil
	}
	if strings.HasPrefix(argv[0], "-") {
		return nil, fault.New(fault.Invalid, "%s comes too late: flags stand before %s", argv[0], args[0])
	}
	return argv, nil
}

func lendTerminal(a *app.App, e *client.Exec) (giveBack func(), err error) {
	// Input from elsewhere has an end, which a terminal cannot be told.
	if e.Stdin != nil && !a.ByHand() {
		return nil, fault.New(fault.Invalid, "standard input is not a terminal").Hint("leave out -t, or -i")
	}
	if _, ok := e.Env["TERM"]; !ok {
		e.Env["TERM"] = cmp.Or(a.Getenv("TERM"), "xterm-256color")
	}
	giveBack, err = tty.Lend(a.Stdin, e)
	if err != nil {
		return nil, fmt.Errorf("lend terminal: %w", err)
	}
	return giveBack, nil
}
