package cli

import (
	"fmt"
	"io"
	"time"

	"bulkhead/client"

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
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			s, err := cl.Snapshot(c.Context(), args[0], client.SnapshotRequest{Name: name})
			if err != nil {
				return err
			}
			if a.output == "text" {
				a.say("the machine stood still for %.1f ms", s.StoppedMS)
			}
			return a.answer(s, func(w io.Writer) { fmt.Fprintln(w, s.ID) })
		},
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
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			r, err := cl.Rollback(c.Context(), args[0], client.RollbackRequest{Snapshot: args[1]})
			if err != nil {
				return err
			}
			return a.answer(r, func(w io.Writer) {
				fmt.Fprintf(w, "%s is back at %s after %.0f ms\n", r.Sandbox.Name, label(r.Snapshot), r.DurationMS)
			})
		},
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
		Long: "Draw a sandbox's snapshots, oldest first, each below the one it followed. The\n" +
			"machine goes on from the one marked with *. OWN is what removing it would free.",
		Example:           "  bulkhead timeline otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			t, err := cl.Timeline(c.Context(), args[0])
			if err != nil {
				return err
			}
			if len(t.Snapshots) == 0 && a.output == "text" {
				a.say("no snapshots; take one: bulkhead snapshot %s", args[0])
			}
			return a.answer(t, func(w io.Writer) { drawTimeline(w, t) })
		},
	}
	c.AddCommand(&cobra.Command{
		Use:               "rm SANDBOX SNAPSHOT",
		Short:             "Remove one snapshot; the machine and the others stay",
		Example:           "  bulkhead timeline rm otter monday",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeSandboxThenSnapshot,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			return cl.RemoveSnapshot(c.Context(), args[0], args[1])
		},
	})
	return c
}

// drawTimeline draws the tree. A snapshot whose parent has been removed
// begins a tree of its own.
func drawTimeline(w io.Writer, t client.Timeline) {
	known := map[string]bool{}
	for _, s := range t.Snapshots {
		known[s.ID] = true
	}
	children := map[string][]client.Snapshot{}
	for _, s := range t.Snapshots {
		parent := s.Parent
		if !known[parent] {
			parent = ""
		}
		children[parent] = append(children[parent], s)
	}
	if len(t.Snapshots) > 0 {
		fmt.Fprintln(w, "SNAPSHOT\tID\tTAKEN\tCAUSE\tOWN")
	}
	// Drawn with an own stack: a timeline may be thousands deep.
	type node struct {
		s      client.Snapshot
		indent string
	}
	var stack []node
	push := func(parent, indent string) {
		kids := children[parent]
		for i := len(kids) - 1; i >= 0; i-- {
			in := indent
			if len(kids) > 1 && i > 0 { // the first child goes straight on
				in += "  "
			}
			stack = append(stack, node{kids[i], in})
		}
	}
	push("", "")
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		mark := "o"
		if n.s.ID == t.Head {
			mark = "*"
		}
		branch := ""
		if n.indent != "" {
			branch = n.indent[:len(n.indent)-2] + "`-"
		}
		fmt.Fprintf(w, "%s%s %s\t%s\t%s\t%s\t%s\n", clip(branch, 20), mark, clip(n.s.Name, 20), clip(n.s.ID, 8),
			n.s.CreatedAt.Local().Format(time.DateTime), n.s.Cause, bytesText(n.s.OwnBytes))
		push(n.s.ID, n.indent)
	}
}
