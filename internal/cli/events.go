package cli

import (
	"context"
	"fmt"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newEventsCommand(a *app.App) *cobra.Command {
	var q client.EventQuery
	c := &cobra.Command{
		Use:   "events [SANDBOX]",
		Short: "Show what happened",
		Long: "Show the event log, oldest first, one event a line, as JSON too. With --follow it\n" +
			"waits for what happens next.",
		Example:           "  bulkhead events --follow",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.CompleteSandboxes,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return runEvents(ctx, a, q, args) }),
	}
	c.Flags().BoolVarP(&q.Follow, "follow", "f", false, "wait for further events")
	c.Flags().Uint64Var(&q.Since, "since", 0, "leave out events up to this number")
	return c
}

func runEvents(ctx context.Context, a *app.App, q client.EventQuery, args []string) error {
	if len(args) > 0 {
		q.Sandbox = args[0]
	}
	return a.API.Events(ctx, q, func(e client.Event) error {
		if a.Output == "json" {
			return show.JSON(a.Stdout, e, false)
		}
		_, err := fmt.Fprintln(a.Stdout, show.Event(e))
		return err
	})
}
