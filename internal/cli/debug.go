package cli

import (
	"bulkhead/internal/cli/app"
	"context"
	"time"

	"github.com/spf13/cobra"
)

func newDebugCommand(a *app.App) *cobra.Command {
	c := &cobra.Command{
		Use:   "debug",
		Short: "Tools for those who repair; without promises",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newDebugReleaseCommand(a))
	return c
}

type releaseOptions struct{ force bool }

func newDebugReleaseCommand(a *app.App) *cobra.Command {
	var o releaseOptions
	c := &cobra.Command{
		Use:   "release",
		Short: "End the VMMs of a state directory and unmount its pool",
		Long: "End every VMM of a state directory whose daemon is gone, and unmount its pool. What\n" +
			"is on disk stays: sandboxes are found crashed by the next daemon.",
		Example: "  bulkhead debug release --state-dir /var/lib/bulkhead",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return runDebugRelease(c.Context(), a, o) },
	}
	c.Flags().BoolVarP(&o.force, "force", "f", false, "end a daemon that still runs first")
	return c
}

func runDebugRelease(ctx context.Context, a *app.App, o releaseOptions) error {
	cfg, err := a.Config(map[string]string{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return a.Release(ctx, cfg, o.force)
}
