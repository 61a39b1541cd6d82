package cli

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completeLimit bounds how long a shell waits for us at a press of Tab.
const completeLimit = 2 * time.Second

// names offers what list returns, and nothing if the daemon does not answer.
func (a *app) names(c *cobra.Command, list func(context.Context) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	var found []string
	run := a.ask(func(ctx context.Context, _ []string) (err error) {
		ctx, cancel := context.WithTimeout(ctx, completeLimit)
		defer cancel()
		found, err = list(ctx)
		return err
	})
	if run(c, nil) != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) sandboxNames(ctx context.Context) (list []string, err error) {
	all, err := a.api.Sandboxes(ctx)
	for _, s := range all {
		list = append(list, s.Name)
	}
	return list, err
}

func (a *app) completeSandboxes(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && c.Name() != "rm" {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.names(c, a.sandboxNames)
}

func (a *app) completeTemplates(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.names(c, func(ctx context.Context) (list []string, err error) {
		all, err := a.api.Templates(ctx)
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
	return a.names(c, func(ctx context.Context) (list []string, err error) {
		t, err := a.api.Timeline(ctx, args[0])
		for _, s := range t.Snapshots {
			list = append(list, cmp.Or(s.Name, s.ID))
		}
		return list, err
	})
}

// completePaths offers the beginnings of paths in sandboxes; if there are
// none, shells offer files of their own accord.
func (a *app) completePaths(c *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	list, _ := a.names(c, a.sandboxNames)
	var fits []string
	for _, name := range list {
		if strings.HasPrefix(name, word) {
			fits = append(fits, name+":")
		}
	}
	return fits, cobra.ShellCompDirectiveNoSpace
}
