// Package tools is the command by which an agent has tools for its sandboxes.
package tools

import (
	"context"
	"io"

	"bulkhead/internal/cli/app"
	"bulkhead/internal/mcp"

	"github.com/spf13/cobra"
)

// NewCommand returns it.
func NewCommand(a *app.App) *cobra.Command {
	var only string
	c := &cobra.Command{
		Use:   "mcp",
		Short: "Serve an agent the tools for its sandboxes",
		Long: "Serve the Model Context Protocol on standard input and output: an agent's program starts\n" +
			"this and has tools to make sandboxes, work in them and undo what it did. With --sandbox\n" +
			"it has one machine and sees no other. By HTTP, the same is at /mcp of the daemon.",
		Example: "  bulkhead mcp --sandbox otter",
		Args:    cobra.NoArgs,
		RunE:    a.Ask(func(ctx context.Context, _ []string) error { return run(ctx, a, only) }),
	}
	c.Flags().StringVar(&only, "sandbox", "", "the one sandbox that there is for the agent (all)")
	return c
}

func run(ctx context.Context, a *app.App, only string) error {
	if only != "" {
		s, err := a.API.Sandbox(ctx, only)
		if err != nil {
			return err
		}
		only = s.ID
	}
	return mcp.Stdio(ctx, mcp.Options{API: a.API, Only: only, Version: a.Version}, a.Stdin, unclosed{a.Stdout})
}

// unclosed is an output that others may use after this.
type unclosed struct{ io.Writer }

// Close implements io.Closer.
func (unclosed) Close() error { return nil }
