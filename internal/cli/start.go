package cli

import (
	"bulkhead/internal/cli/app"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newStartCommand(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "start SANDBOX",
		Short: "Boot a stopped or crashed sandbox from its disk",
		Long: "Boot a stopped or crashed sandbox from its disk as it is. What was only in memory\n" +
			"is lost; a rollback brings memory back too.",
		Example:           "  bulkhead start otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.CompleteSandboxes,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return runStart(ctx, a, args) }),
	}
}

func runStart(ctx context.Context, a *app.App, args []string) error {
	s, err := a.API.Start(ctx, args[0])
	if err != nil {
		return err
	}
	return a.Answer(s, func(w io.Writer) { fmt.Fprintln(w, s.Name) })
}
