package cli

import (
	"cmp"
	"context"
	"time"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

type runOptions struct {
	execOptions
	keep bool
}

func newRunCommand(a *app.App) *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run [flags] TEMPLATE -- COMMAND [ARG...]",
		Short: "Make a sandbox, run a command in it, remove it",
		Long: "Make a sandbox, run a command in it as exec does, and remove the sandbox whatever\n" +
			"the command did. With --keep it stays, and its name is told.",
		Example: "  bulkhead run base -- python3 -c 'print(6*7)'",
		Args:    cobra.MinimumNArgs(2), Annotations: passes(),
		DisableFlagsInUseLine: true, ValidArgsFunction: a.CompleteTemplates,
		RunE: a.Ask(func(ctx context.Context, args []string) error { return runRun(ctx, a, o, args) }),
	}
	o.addFlags(c)
	c.Flags().BoolVar(&o.keep, "keep", false, "keep the sandbox")
	return c
}

func runRun(ctx context.Context, a *app.App, o runOptions, args []string) (err error) {
	argv, err := commandOf(args)
	if err != nil {
		return err
	}
	s, err := a.API.Create(ctx, client.CreateRequest{TemplateID: args[0]})
	if err != nil {
		return err
	}
	a.WarnBoundary(s.Accel)
	defer func() {
		if o.keep {
			a.Say("kept as %s", s.Name)
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if rerr := a.API.Remove(ctx, s.ID); rerr != nil {
			a.Say("%s is still there: %s", s.Name, show.OneLine(rerr.Error()))
			err = cmp.Or(err, rerr)
		}
	}()
	return runExec(ctx, a, o.execOptions, append([]string{s.ID, "--"}, argv...))
}
