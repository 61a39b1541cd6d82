package cli

import (
	"context"
	"time"

	"bulkhead/client"

	"github.com/spf13/cobra"
)

// completeLimit bounds how long a shell waits for us at a press of Tab.
const completeLimit = 2 * time.Second

// names offers what ask returns, and nothing if the daemon does not answer.
func (a *app) names(c *cobra.Command, ask func(context.Context, *client.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(c.Context(), completeLimit)
	defer cancel()
	cl, err := a.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, err := ask(ctx, cl)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeSandboxes(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && c.Name() != "rm" {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.names(c, func(ctx context.Context, cl *client.Client) (list []string, err error) {
		all, err := cl.Sandboxes(ctx)
		for _, s := range all {
			list = append(list, s.Name)
		}
		return list, err
	})
}

func (a *app) completeTemplates(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.names(c, func(ctx context.Context, cl *client.Client) (list []string, err error) {
		all, err := cl.Templates(ctx)
		for _, t := range all {
			list = append(list, t.Name)
		}
		return list, err
	})
}

func (a *app) completeSandboxThenSnapshot(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return a.completeSandboxes(c, args, word)
	}
	return a.names(c, func(ctx context.Context, cl *client.Client) (list []string, err error) {
		t, err := cl.Timeline(ctx, args[0])
		for _, s := range t.Snapshots {
			list = append(list, label(s))
		}
		return list, err
	})
}
