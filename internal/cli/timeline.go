package cli

import (
	"context"
	"io"

	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newTimelineCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "timeline SANDBOX",
		Short: "Draw the tree of a sandbox's snapshots",
		Long: "Draw a sandbox's snapshots, each below the one it followed. What a rollback left\n" +
			"behind stands to the side (|-), what followed a removed snapshot too (~-). The\n" +
			"machine goes on from the one marked with *. OWN is what removing it would free.",
		Example:           "  bulkhead timeline otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE:              a.ask(func(ctx context.Context, args []string) error { return runTimeline(ctx, a, args) }),
	}
	c.AddCommand(newTimelineRmCommand(a))
	return c
}

func runTimeline(ctx context.Context, a *app, args []string) error {
	t, err := a.api.Timeline(ctx, args[0])
	if err != nil {
		return err
	}
	if len(t.Snapshots) == 0 && a.output == "text" {
		a.say("no snapshots; take one: bulkhead snapshot %s", args[0])
	}
	return a.answer(t, func(w io.Writer) { show.Timeline(w, t) })
}

func newTimelineRmCommand(a *app) *cobra.Command {
	var o rmOptions
	c := &cobra.Command{
		Use:   "rm SANDBOX SNAPSHOT",
		Short: "Remove one snapshot; the machine and the others stay",
		Long: "Remove one snapshot; the machine and the other snapshots stay as they are. This\n" +
			"cannot be undone, so it asks first when it is run by hand.",
		Example:           "  bulkhead timeline rm otter monday",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeSandboxThenSnapshot,
		RunE:              a.ask(func(ctx context.Context, args []string) error { return runTimelineRm(ctx, a, o, args) }),
	}
	o.addFlags(c)
	return c
}

func runTimelineRm(ctx context.Context, a *app, o rmOptions, args []string) error {
	if !o.force && a.byHand() {
		if err := a.confirm("remove snapshot %s of %s for good?", args[1], args[0]); err != nil {
			return err
		}
	}
	if err := a.api.RemoveSnapshot(ctx, args[0], args[1]); err != nil {
		return err
	}
	return a.answer(removed{SandboxID: args[0], SnapshotID: args[1]}, silence)
}
