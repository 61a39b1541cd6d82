package cli

import (
	"context"
	"io"

	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newInspectCommand(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect SANDBOX",
		Short: "Show all about one sandbox",
		Long: "Show all about one sandbox. Of one that has crashed or stopped, that is also why,\n" +
			"the way back, and the end of its console.",
		Example:           "  bulkhead inspect otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.CompleteSandboxes,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return runInspect(ctx, a, args) }),
	}
}

func runInspect(ctx context.Context, a *app.App, args []string) error {
	s, err := a.API.Sandbox(ctx, args[0])
	if err != nil {
		return err
	}
	return a.Answer(s, func(w io.Writer) { show.Sandbox(w, s) })
}
