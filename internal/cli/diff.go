package cli

import (
	"context"
	"fmt"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newDiffCommand(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "diff SANDBOX SNAPSHOT [SNAPSHOT]",
		Short: "List the files that differ between two moments of a sandbox",
		Long: "List the files that were added (+), removed (-) or changed (~) from one snapshot to\n" +
			"another, or to the machine as it is now. Snapshots are brought up for it in machines\n" +
			"of their own in which nothing runs; the sandbox goes on. The list is what the kernel\n" +
			"inside says: one that an attacker has taken may lie.",
		Example:           "  bulkhead diff otter monday\n  bulkhead diff otter monday tuesday",
		Args:              cobra.RangeArgs(2, 3),
		ValidArgsFunction: a.CompleteSandboxThenSnapshot,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			to := ""
			if len(args) > 2 {
				to = args[2]
			}
			return runDiff(ctx, a, args, to)
		}),
	}
}

func runDiff(ctx context.Context, a *app.App, args []string, to string) error {
	count := map[string]int{}
	done := a.Wait("bringing up what is compared")
	defer done()
	err := a.API.Diff(ctx, args[0], args[1], to, func(c client.FileChange) error {
		done()
		count[c.Kind]++
		if a.Output == "json" {
			return show.JSON(a.Stdout, c, false)
		}
		_, err := fmt.Fprintln(a.Stdout, show.FileChange(c))
		return err
	})
	done()
	if err != nil {
		return err
	}
	if a.Output != "json" {
		a.Say("%d added, %d removed, %d changed", count["added"], count["removed"], count["changed"])
	}
	return nil
}
