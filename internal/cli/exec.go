package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"bulkhead/client"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// exitExecFailed is the code of every failure of exec, shell and run
// themselves, as docker has it: few programs use it, so it is told from the
// codes of commands. What kind of failure it was is in the JSON.
const exitExecFailed = 125

// execFailed marks an error of exec itself, whatever its kind.
type execFailed struct{ error }

func (e execFailed) Unwrap() error { return e.error }

// failsAsExec makes whatever goes wrong with c, bad usage included, execFailed.
func failsAsExec(c *cobra.Command) {
	mark := func(do func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
		return func(c *cobra.Command, args []string) error {
			err := do(c, args)
			if exit := (exitError{}); err == nil || errors.As(err, &exit) {
				return err
			}
			return execFailed{err}
		}
	}
	c.Args, c.RunE = mark(c.Args), mark(c.RunE)
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return execFailed{badUsage(c, err)} })
}

// execOptions are those of exec, shell and run.
type execOptions struct {
	user, dir   string
	env         []string
	interactive bool
	terminal    bool
}

func (o *execOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.SetInterspersed(false)
	f.StringVarP(&o.user, "user", "u", "root", "user inside")
	f.StringVarP(&o.dir, "workdir", "w", "", "directory inside (the user's home)")
	f.StringArrayVarP(&o.env, "env", "e", nil, "variable for the command, KEY=VALUE")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "pass standard input on")
	f.BoolVarP(&o.terminal, "tty", "t", false, "give the command a terminal")
}

func newExec(a *app) *cobra.Command {
	var o execOptions
	c := &cobra.Command{
		Use:   "exec SANDBOX -- COMMAND [ARG...]",
		Short: "Run a command in a sandbox",
		Long: "Run a command in a sandbox, as root unless told otherwise, and end with its exit\n" +
			"status: 128 and the signal's number if a signal ended it, 125 if exec itself failed.\n" +
			"Ctrl-C asks the command to end, a second one kills it, a third stops waiting.",
		Example:           "  bulkhead exec otter -- apt-get install -y jq\n  bulkhead exec -it otter -- bash",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(c *cobra.Command, args []string) error {
			return a.exec(c.Context(), args[0], dropDashes(args[1:]), o)
		},
	}
	o.addFlags(c)
	return c
}

// dropDashes removes the "--" between a sandbox and its command, which is
// still there because flags end at the first argument.
func dropDashes(args []string) []string {
	if len(args) > 1 && args[0] == "--" {
		return args[1:]
	}
	return args
}

func newShell(a *app) *cobra.Command {
	o := execOptions{interactive: true, terminal: true}
	c := &cobra.Command{
		Use:               "shell SANDBOX",
		Short:             "Open a shell in a sandbox",
		Example:           "  bulkhead shell otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(c *cobra.Command, args []string) error {
			o.terminal = a.byHand()
			return a.exec(c.Context(), args[0], []string{"bash", "-l"}, o)
		},
	}
	c.Flags().StringVarP(&o.user, "user", "u", "root", "user inside")
	return c
}

func newRun(a *app) *cobra.Command {
	var o execOptions
	var keep bool
	c := &cobra.Command{
		Use:   "run TEMPLATE -- COMMAND [ARG...]",
		Short: "Make a sandbox, run a command in it, remove it",
		Long: "Make a sandbox, run a command in it, and remove the sandbox whatever the command\n" +
			"did. It ends with the command's exit status, or with 125 if run itself failed.",
		Example:           "  bulkhead run base -- python3 -c 'print(6*7)'",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.completeTemplates,
		RunE: func(c *cobra.Command, args []string) (err error) {
			cl, err := a.client()
			if err != nil {
				return err
			}
			s, err := cl.Create(c.Context(), client.CreateRequest{TemplateID: args[0]})
			if err != nil {
				return err
			}
			a.warnBoundary(s.Accel)
			defer func() {
				if keep {
					a.say("kept as %s", s.Name)
					return
				}
				ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), time.Minute)
				defer cancel()
				if rerr := cl.Remove(ctx, s.ID); rerr != nil {
					a.say("%s is still there: %s", s.Name, show.OneLine(rerr.Error()))
					err = cmp.Or(err, rerr)
				}
			}()
			return a.exec(c.Context(), s.ID, dropDashes(args[1:]), o)
		},
	}
	o.addFlags(c)
	c.Flags().BoolVar(&keep, "keep", false, "keep the sandbox")
	return c
}

// byHand reports whether somebody sits at standard input.
func (a *app) byHand() bool { return term.IsTerminal(int(a.Stdin.Fd())) }

// exec runs a command and returns its exit code as an exitError.
func (a *app) exec(ctx context.Context, ref string, argv []string, o execOptions) error {
	env, err := pairs(o.env)
	if err != nil {
		return err
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	e := client.Exec{
		Sandbox: ref, Cmd: argv[0], Args: argv[1:], User: o.user, Dir: o.dir, Env: env,
		Stdout: a.Stdout, Stderr: a.Stderr,
	}
	if o.interactive {
		e.Stdin = a.Stdin
	}
	if o.terminal {
		giveBack, err := a.takeTerminal(&e)
		if err != nil {
			return err
		}
		defer giveBack()
	}
	ctx, stop := forwardSignals(ctx, &e)
	defer stop()
	code, err := cl.Exec(ctx, e)
	if err != nil {
		return err
	}
	if code != 0 {
		return exitError{code}
	}
	return nil
}

// takeTerminal gives the command a terminal as large as ours. If it gets our
// keys, ours becomes raw, so that they reach it unchanged.
func (a *app) takeTerminal(e *client.Exec) (giveBack func(), err error) {
	fd := int(a.Stdin.Fd())
	e.Terminal = &client.Size{Cols: 80, Rows: 24}
	if _, ok := e.Env["TERM"]; !ok {
		e.Env["TERM"] = "xterm-256color"
	}
	if !term.IsTerminal(fd) {
		return func() {}, nil
	}
	restore := func() {}
	if e.Stdin != nil {
		old, err := term.MakeRaw(fd)
		if err != nil {
			return nil, fmt.Errorf("set terminal: %w", err)
		}
		restore = func() { term.Restore(fd, old) } // best effort: the terminal may be gone
	}
	stop := followSize(fd, e)
	return func() { stop(); restore() }, nil
}

// followSize keeps the size of e's terminal that of ours, until stop.
func followSize(fd int, e *client.Exec) (stop func()) {
	winch := make(chan os.Signal, 1)
	signal.Notify(winch, syscall.SIGWINCH) // before the first look, so as to miss no change
	if w, h, err := term.GetSize(fd); err == nil {
		e.Terminal = &client.Size{Cols: uint32(w), Rows: uint32(h)}
	}
	sizes, done := make(chan client.Size), make(chan struct{})
	e.Resize = sizes
	go func() {
		for {
			select {
			case <-winch:
			case <-done:
				return
			}
			w, h, err := term.GetSize(fd)
			if err != nil {
				continue
			}
			select {
			case sizes <- client.Size{Cols: uint32(w), Rows: uint32(h)}:
			case <-done:
				return
			}
		}
	}()
	return func() { signal.Stop(winch); close(done) }
}

// errGaveUp is the cause when the user would not wait for the command's end.
var errGaveUp = errors.New("gave up waiting: the command may still run")

// forwardSignals passes our end on to the command: the first request to end
// asks it, the second kills it. With the third, nobody waits for it any more:
// a guest that hangs must not hang us.
func forwardSignals(ctx context.Context, e *client.Exec) (context.Context, func()) {
	ctx, giveUp := context.WithCancelCause(ctx)
	in := make(chan os.Signal, 3)
	signal.Notify(in, syscall.SIGINT, syscall.SIGTERM)
	out := make(chan int, 2)
	e.Signals = out
	go func() {
		for n := range 3 {
			select {
			case <-in:
			case <-ctx.Done():
				return
			}
			switch n {
			case 0:
				out <- int(syscall.SIGTERM)
			case 1:
				out <- int(syscall.SIGKILL)
			case 2:
				giveUp(errGaveUp)
			}
		}
	}()
	return ctx, func() { signal.Stop(in); giveUp(nil) }
}
