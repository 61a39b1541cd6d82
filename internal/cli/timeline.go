package cli

import (
	"context"
	"io"

	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newTimelineCommand(a *app.App) *cobra.Command {
	c := &cobra.Command{
		Use:   "timeline SANDBOX",
		Short: "Draw the tree of a sandbox's snapshots",
		Long: "Draw a sandbox's snapshots, each below the one it followed. What a rollback left\n" +
			"behind stands to the side (|-), what followed a removed snapshot too (~-). The\n" +
			"machine goes on from the one marked with *. OWN is what removing it would free.",
		Example:           "  bulkhead timeline otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.CompleteSandboxes,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return runTimeline(ctx, a, args) }),
	}
	c.AddCommand(newTimelineRmCommand(a))
	return c
}

func runTimeline(ctx context.Context, a *app.App, args []string) error {
	t, err := a.API.Timeline(ctx, args[0])
	if err != nil {
		return err
	}
	if len(t.Snapshots) == 0 && a.Output == "text" {
		a.Say("no snapshots; take one: bulkhead snapshot %s", args[0])
	}
	return a.Answer(t, func(w io.Writer) { show.Timeline(w, t) })
}

func newTimelineRmCommand(a *app.App) *cobra.Command {
	var o rmOptions
	c := &cobra.Command{
		Use:   "rm SANDBOX SNAPSHOT",
		Short: "Remove one snapshot; the machine and the others stay",
		Long: "Remove one snapshot; the machine and the other snapshots stay as they are. This\n" +
			"cannot be undone, so it asks first when it is run by hand.",
		Example:           "  bulkhead timeline rm otter monday",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.CompleteSandboxThenSnapshot,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return runTimelineRm(ctx, a, o, args) }),
	}
	o.addFlags(c)
	return c
}

func runTimelineRm(ctx context.Context, a *app.App, o rmOptions, args []string) error {
	if !o.force && a.ByHand() {
		if err := confirm(a, "remove snapshot %s of %s for good?", args[1], args[0]); err != nil {
			return err
		}
	}
	if err := a.API.RemoveSnapshot(ctx, args[0], args[1]); err != nil {
		return err
	}
	return a.Answer(removed{SandboxID: args[0], SnapshotID: args[1]}, app.Silence)
}
