package cli

import (
	"context"
	"fmt"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/fault"

	"github.com/spf13/cobra"
)

func newDiffCommand(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "diff [SANDBOX] SNAPSHOT [SNAPSHOT]",
		Short: "List the files that differ between two moments of a sandbox",
		Long: "List the files that were added (+), removed (-) or changed (~) from one snapshot to\n" +
			"another, or to the machine as it is now. Snapshots are brought up for it in machines\n" +
			"of their own in which nothing runs; the sandbox goes on. The list is what the kernel\n" +
			"inside says: one that an attacker has taken may lie. Ids of snapshots need no SANDBOX.",
		Example:           "  bulkhead diff otter monday\n  bulkhead diff otter monday tuesday\n  bulkhead diff sj3jccztlbnez sozkw6m3enu7h",
		Args:              cobra.RangeArgs(1, 3),
		ValidArgsFunction: a.CompleteSandboxThenSnapshot,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			sandbox, snapshots, err := a.Moments(ctx, args, 2)
			if err != nil {
				return err
			}
			if len(snapshots) == 0 {
				return fault.New(fault.Invalid, "which moment of %s?", sandbox).Hint("bulkhead timeline %s", sandbox)
			}
			return runDiff(ctx, a, sandbox, append(snapshots, "")) // "" is now
		}),
	}
}

func runDiff(ctx context.Context, a *app.App, sandbox string, moments []string) error {
	count := map[string]int{}
	done := a.Wait("bringing up what is compared")
	defer done()
	err := a.API.Diff(ctx, sandbox, moments[0], moments[1], func(c client.FileChange) error {
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
