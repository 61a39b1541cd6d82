package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"bulkhead/client"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// exitExecFailed is the code when exec itself failed, as docker has it: it is
// told from the codes of commands by few programs using it.
const exitExecFailed = 125

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
			"status. Output streams as it comes; 125 means that exec itself failed.",
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
			"did. It ends with the command's exit status.",
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
					err = errors.Join(err, fmt.Errorf("remove %s: %w", s.Name, rerr))
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
		restore, err := a.takeTerminal(&e)
		if err != nil {
			return err
		}
		defer restore()
	}
	signals, stop := forwardSignals()
	defer stop()
	e.Signals = signals
	code, err := cl.Exec(ctx, e)
	if err != nil {
		return execFailed{err}
	}
	if code != 0 {
		return exitError{code}
	}
	return nil
}

// execFailed marks an error of exec itself, whatever its kind.
type execFailed struct{ error }

func (e execFailed) Unwrap() error { return e.error }

// takeTerminal gives the command our terminal: raw, so that keys reach it
// unchanged, and as large as it is.
func (a *app) takeTerminal(e *client.Exec) (restore func(), err error) {
	fd := int(a.Stdin.Fd())
	e.Terminal = &client.Size{Cols: 80, Rows: 24}
	if e.Env == nil {
		e.Env = map[string]string{}
	}
	if _, ok := e.Env["TERM"]; !ok {
		e.Env["TERM"] = "xterm-256color"
	}
	if !term.IsTerminal(fd) {
		return func() {}, nil
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("set terminal: %w", err)
	}
	if w, h, err := term.GetSize(fd); err == nil {
		e.Terminal = &client.Size{Cols: uint32(w), Rows: uint32(h)}
	}
	winch := make(chan os.Signal, 1)
	signal.Notify(winch, syscall.SIGWINCH)
	sizes := make(chan client.Size)
	done := make(chan struct{})
	go func() {
		defer close(sizes)
		for {
			select {
			case <-winch:
			case <-done:
				return
			}
			if w, h, err := term.GetSize(fd); err == nil {
				select {
				case sizes <- client.Size{Cols: uint32(w), Rows: uint32(h)}:
				case <-done:
					return
				}
			}
		}
	}()
	e.Resize = sizes
	return func() {
		signal.Stop(winch)
		close(done)
		term.Restore(fd, old) // best effort: the terminal may be gone
	}, nil
}

// forwardSignals passes our end on to the command: the first request to end
// asks it, the second kills it.
func forwardSignals() (<-chan int, func()) {
	in := make(chan os.Signal, 2)
	signal.Notify(in, syscall.SIGINT, syscall.SIGTERM)
	out := make(chan int, 2)
	done := make(chan struct{})
	go func() {
		defer close(out)
		for _, sig := range []int{int(syscall.SIGTERM), int(syscall.SIGKILL)} {
			select {
			case <-in:
				out <- sig
			case <-done:
				return
			}
		}
	}()
	return out, func() { signal.Stop(in); close(done) }
}
