package app

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

// completeLimit bounds how long a shell waits for us at a press of Tab.
const completeLimit = 2 * time.Second

// Names offers what list returns, and nothing if the daemon does not answer. What
// is no visible text is not offered: a shell would print it.
func (a *App) Names(c *cobra.Command, list func(context.Context) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	var found []string
	run := a.Ask(func(ctx context.Context, _ []string) (err error) {
		ctx, cancel := context.WithTimeout(ctx, completeLimit)
		defer cancel()
		found, err = list(ctx)
		return err
	})
	if run(c, nil) != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	found = slices.DeleteFunc(found, func(name string) bool { return name != show.OneLine(name) })
	return found, cobra.ShellCompDirectiveNoFileComp
}

// SandboxNames lists the names of all sandboxes.
func (a *App) SandboxNames(ctx context.Context) (list []string, err error) {
	all, err := a.API.Sandboxes(ctx)
	for _, s := range all {
		list = append(list, s.Name)
	}
	return list, err
}

// CompleteSandboxes offers sandboxes for the first argument.
func (a *App) CompleteSandboxes(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && c.Name() != "rm" {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.Names(c, a.SandboxNames)
}

// CompleteTemplates offers templates for the first argument.
func (a *App) CompleteTemplates(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.Names(c, func(ctx context.Context) (list []string, err error) {
		all, err := a.API.Templates(ctx)
		for _, t := range all {
			list = append(list, t.Name)
		}
		return list, err
	})
}

// CompleteSandboxThenSnapshot offers sandboxes, then that one's snapshots.
func (a *App) CompleteSandboxThenSnapshot(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return a.CompleteSandboxes(c, args, word)
	}
	return a.Names(c, func(ctx context.Context) (list []string, err error) {
		t, err := a.API.Timeline(ctx, args[0])
		for _, s := range t.Snapshots {
			list = append(list, cmp.Or(s.Name, s.ID))
		}
		return list, err
	})
}

// CompletePaths offers the beginnings of paths in sandboxes; if there are
// none, shells offer files of their own accord.
func (a *App) CompletePaths(c *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	list, _ := a.Names(c, a.SandboxNames)
	var fits []string
	for _, name := range list {
		if strings.HasPrefix(name, word) {
			fits = append(fits, name+":")
		}
	}
	return fits, cobra.ShellCompDirectiveNoSpace
}
