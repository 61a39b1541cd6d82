package cli

import (
	"context"
	"io"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newLsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List sandboxes",
		Long: "List sandboxes, oldest first, with their ids' first letters. HEAD is the snapshot\n" +
			"that each goes on from.",
		Example: "  bulkhead ls --output json",
		Args:    cobra.NoArgs,
		RunE:    a.ask(func(ctx context.Context, _ []string) error { return runLs(ctx, a) }),
	}
}

func runLs(ctx context.Context, a *app) error {
	all, err := a.api.Sandboxes(ctx)
	if err != nil {
		return err
	}
	if a.output == "text" {
		a.talkAbout(all)
		if err := a.warnJail(ctx); err != nil {
			return err
		}
	}
	return a.answer(all, func(w io.Writer) { show.Sandboxes(w, all) })
}

func (a *app) talkAbout(all []client.Sandbox) {
	if len(all) == 0 {
		a.say("no sandboxes; make one: bulkhead create base")
	}
	for _, s := range all {
		a.warnBoundary(s.Accel)
		if s.Hint != "" {
			a.say("%s is %s: %s; to bring it back: %s", s.Name, s.State, show.OneLine(s.Reason), s.Hint)
		}
	}
}

// warnJail says on every listing what the operator has agreed to do without.
func (a *app) warnJail(ctx context.Context) error {
	info, err := a.api.Info(ctx)
	if err != nil {
		return err
	}
	if len(info.JailLacks) > 0 {
		a.say("warning: the jail is degraded: this host has no %s", strings.Join(info.JailLacks, ", no "))
	}
	return nil
}
