package cli

import (
	"context"
	"io"

	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/cli/tty"
	"bulkhead/internal/fault"

	"github.com/spf13/cobra"
)

type logsOptions struct {
	follow, raw bool
	tail        int
}

func newLogsCommand(a *app.App) *cobra.Command {
	var o logsOptions
	c := &cobra.Command{
		Use:   "logs SANDBOX",
		Short: "Show a sandbox's console",
		Long: "Show what the guest's kernel and init printed on the console. On a terminal escape\n" +
			"sequences are taken out: they are the guest's, and could do things to your screen.",
		Example:           "  bulkhead logs -f otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.CompleteSandboxes,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return runLogs(ctx, a, o, args) }),
	}
	f := c.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "go on as the guest prints")
	f.IntVar(&o.tail, "tail", 64<<10, "begin this many bytes before the end")
	f.BoolVar(&o.raw, "raw", false, "leave escape sequences in")
	return c
}

func runLogs(ctx context.Context, a *app.App, o logsOptions, args []string) error {
	if o.tail < 0 {
		return fault.New(fault.Invalid, "--tail %d is negative", o.tail)
	}
	r, err := a.API.Console(ctx, args[0], o.tail, o.follow)
	if err != nil {
		return err
	}
	defer r.Close()
	out := a.Stdout
	if tty.Is(a.Stdout) && !o.raw {
		out = show.Plain(out)
	}
	_, err = io.Copy(out, r)
	return err
}
