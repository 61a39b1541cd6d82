package cli

import (
	"fmt"
	"io"

	"bulkhead/client"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newSnapshot(a *app) *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "snapshot SANDBOX",
		Short: "Take a snapshot of the whole running machine",
		Long: "Take a snapshot of memory, disk and devices, all of one moment. The machine goes\n" +
			"on; the snapshot is only listed once it is safe on disk. It prints the snapshot's id.",
		Example:           "  bulkhead snapshot otter --name monday",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: a.ask(func(c *cobra.Command, cl *client.Client, args []string) error {
			s, err := cl.Snapshot(c.Context(), args[0], client.SnapshotRequest{Name: name})
			if err != nil {
				return err
			}
			if a.output == "text" {
				a.say("the machine stood still for %.1f ms", s.StoppedMS)
			}
			return a.answer(s, func(w io.Writer) { fmt.Fprintln(w, s.ID) })
		}),
	}
	c.Flags().StringVarP(&name, "name", "n", "", "name of the snapshot: a-z, 0-9 and -")
	return c
}

func newRollback(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rollback SANDBOX SNAPSHOT",
		Short: "Put a sandbox back to one of its snapshots, in place",
		Long: "Put the machine back to a snapshot: memory, disk, processes. What it was since its\n" +
			"last snapshot is lost; take one first to keep it. Other snapshots stay.",
		Example:           "  bulkhead rollback otter monday",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeSandboxThenSnapshot,
		RunE: a.ask(func(c *cobra.Command, cl *client.Client, args []string) error {
			r, err := cl.Rollback(c.Context(), args[0], client.RollbackRequest{Snapshot: args[1]})
			if err != nil {
				return err
			}
			return a.answer(r, func(w io.Writer) {
				fmt.Fprintf(w, "%s is back at %s after %.0f ms\n", r.Sandbox.Name, label(r.Snapshot), r.DurationMS)
			})
		}),
	}
}

func label(s client.Snapshot) string {
	if s.Name != "" {
		return s.Name
	}
	return s.ID
}

func newTimeline(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "timeline SANDBOX",
		Short: "Draw the tree of a sandbox's snapshots",
		Long: "Draw a sandbox's snapshots, each below the one it followed. What a rollback left\n" +
			"behind stands to the side (|-), what followed a removed snapshot too (~-). The\n" +
			"machine goes on from the one marked with *. OWN is what removing it would free.",
		Example:           "  bulkhead timeline otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: a.ask(func(c *cobra.Command, cl *client.Client, args []string) error {
			t, err := cl.Timeline(c.Context(), args[0])
			if err != nil {
				return err
			}
			if len(t.Snapshots) == 0 && a.output == "text" {
				a.say("no snapshots; take one: bulkhead snapshot %s", args[0])
			}
			return a.answer(t, func(w io.Writer) { show.Timeline(w, t) })
		}),
	}
	c.AddCommand(&cobra.Command{
		Use:               "rm SANDBOX SNAPSHOT",
		Short:             "Remove one snapshot; the machine and the others stay",
		Example:           "  bulkhead timeline rm otter monday",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeSandboxThenSnapshot,
		RunE: a.ask(func(c *cobra.Command, cl *client.Client, args []string) error {
			return cl.RemoveSnapshot(c.Context(), args[0], args[1])
		}),
	})
	return c
}
