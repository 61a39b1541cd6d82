package cli

import (
	"context"
	"fmt"
	"io"

	"bulkhead/client"
	"bulkhead/internal/cli/app"

	"github.com/spf13/cobra"
)

type snapshotOptions struct{ name string }

func newSnapshotCommand(a *app.App) *cobra.Command {
	var o snapshotOptions
	c := &cobra.Command{
		Use:   "snapshot SANDBOX",
		Short: "Take a snapshot of the whole running machine",
		Long: "Take a snapshot of memory, disk and devices, all of one moment; the machine goes on.\n" +
			"It prints the snapshot's id once the snapshot is safe on disk.",
		Example:           "  bulkhead snapshot otter --name monday",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.CompleteSandboxes,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return runSnapshot(ctx, a, o, args) }),
	}
	c.Flags().StringVarP(&o.name, "name", "n", "", "name of the snapshot: a-z, 0-9 and -")
	return c
}

func runSnapshot(ctx context.Context, a *app.App, o snapshotOptions, args []string) error {
	done := a.Wait("taking the snapshot")
	s, err := a.API.Snapshot(ctx, args[0], client.SnapshotRequest{Name: o.name})
	done()
	if err != nil {
		return err
	}
	if a.Output == "text" {
		a.Say("the machine stood still for %.1f ms", s.StoppedMS)
	}
	return a.Answer(s, func(w io.Writer) { fmt.Fprintln(w, s.ID) })
}
