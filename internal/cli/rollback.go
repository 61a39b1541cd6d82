package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newRollbackCommand(a *app.App) *cobra.Command {
	var req client.RollbackRequest
	c := &cobra.Command{
		Use:   "rollback SANDBOX SNAPSHOT",
		Short: "Put a sandbox back to one of its snapshots, in place",
		Long: "Put the machine back to a snapshot: memory, disk, processes. What it is now is kept\n" +
			"as a snapshot if it runs and answers; of these the latest four stay.",
		Example:           "  bulkhead rollback otter monday",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.CompleteSandboxThenSnapshot,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return runRollback(ctx, a, req, args) }),
	}
	c.Flags().BoolVar(&req.Discard, "discard", false, "give up what it is now")
	return c
}

func runRollback(ctx context.Context, a *app.App, req client.RollbackRequest, args []string) error {
	req.Snapshot = args[1]
	done := a.Wait("rolling back " + args[0])
	r, err := a.API.Rollback(ctx, args[0], req)
	done()
	if err != nil {
		return err
	}
	if a.Output == "text" && r.Kept != "" {
		a.Say("what it was is kept: bulkhead rollback %s %s", r.Sandbox.Name, r.Kept)
	}
	if a.Output == "text" && r.Lost != "" && !req.Discard {
		a.Say("what it was is not kept: %s", show.OneLine(r.Lost))
	}
	return a.Answer(r, func(w io.Writer) {
		fmt.Fprintf(w, "%s is back at %s after %.0f ms\n", r.Sandbox.Name, cmp.Or(r.Snapshot.Name, r.Snapshot.ID), r.DurationMS)
	})
}
