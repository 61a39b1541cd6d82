package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"bulkhead/client"
	"bulkhead/internal/cli/app"

	"github.com/spf13/cobra"
)

func newRollbackCommand(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "rollback SANDBOX SNAPSHOT",
		Short: "Put a sandbox back to one of its snapshots, in place",
		Long: "Put the machine back to a snapshot: memory, disk, processes. What it was since its\n" +
			"last snapshot is lost; take one first to keep it. Other snapshots stay.",
		Example:           "  bulkhead rollback otter monday",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.CompleteSandboxThenSnapshot,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return runRollback(ctx, a, args) }),
	}
}

func runRollback(ctx context.Context, a *app.App, args []string) error {
	r, err := a.API.Rollback(ctx, args[0], client.RollbackRequest{Snapshot: args[1]})
	if err != nil {
		return err
	}
	return a.Answer(r, func(w io.Writer) {
		fmt.Fprintf(w, "%s is back at %s after %.0f ms\n", r.Sandbox.Name, cmp.Or(r.Snapshot.Name, r.Snapshot.ID), r.DurationMS)
	})
}
