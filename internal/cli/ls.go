package cli

import (
	"context"
	"io"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newLsCommand(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List sandboxes",
		Long: "List sandboxes, oldest first, with their ids' first letters. HEAD is the snapshot\n" +
			"that each goes on from.",
		Example: "  bulkhead ls --output json",
		Args:    cobra.NoArgs,
		RunE:    a.Ask(func(ctx context.Context, _ []string) error { return runLs(ctx, a) }),
	}
}

func runLs(ctx context.Context, a *app.App) error {
	all, err := a.API.Sandboxes(ctx)
	if err != nil {
		return err
	}
	if a.Output == "text" {
		talkAbout(a, all)
		if err := warnJail(ctx, a); err != nil {
			return err
		}
	}
	return a.Answer(all, func(w io.Writer) { show.Sandboxes(w, all) })
}

func talkAbout(a *app.App, all []client.Sandbox) {
	if len(all) == 0 {
		a.Say("no sandboxes; make one: bulkhead create base")
	}
	for _, s := range all {
		a.WarnBoundary(s.Accel)
		if s.Hint != "" {
			why := ""
			if s.Reason != "" {
				why = ": " + show.OneLine(s.Reason)
			}
			a.Say("%s is %s%s; to bring it back: %s", s.Name, s.State, why, s.Hint)
		}
	}
}

// warnJail says on every listing what the operator has agreed to do without.
func warnJail(ctx context.Context, a *app.App) error {
	info, err := a.API.Info(ctx)
	if err != nil {
		return err
	}
	if len(info.JailLacks) > 0 {
		a.Say("warning: the jail is degraded: this host has no %s", strings.Join(info.JailLacks, ", no "))
	}
	return nil
}
