package cli

import (
	"context"
	"io"

	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newTemplateCommand(a *app.App) *cobra.Command {
	c := &cobra.Command{
		Use:   "template",
		Short: "Prepare the machines that sandboxes start from",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newTemplateBuildCommand(a), newTemplateLsCommand(a), newTemplateRmCommand(a))
	return c
}

func newTemplateLsCommand(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List templates",
		Long: "List templates. OWN is what removing one would free, USED how many sandboxes came\n" +
			"from it and still exist.",
		Example: "  bulkhead template ls",
		Args:    cobra.NoArgs,
		RunE:    a.Ask(func(ctx context.Context, _ []string) error { return runTemplateLs(ctx, a) }),
	}
}

func runTemplateLs(ctx context.Context, a *app.App) error {
	all, err := a.API.Templates(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 && a.Output == "text" {
		a.Say("no templates; build one: bulkhead template build base")
	}
	return a.Answer(all, func(w io.Writer) { show.Templates(w, all) })
}

func newTemplateRmCommand(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove a template; sandboxes made from it stay",
		Long: "Remove a template; sandboxes made from it keep all that they have. To undo it, build\n" +
			"it again.",
		Example:           "  bulkhead template rm base",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.CompleteTemplates,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return runTemplateRm(ctx, a, args) }),
	}
}

func runTemplateRm(ctx context.Context, a *app.App, args []string) error {
	if err := a.API.RemoveTemplate(ctx, args[0]); err != nil {
		return err
	}
	return a.Answer(removed{Name: args[0]}, app.Silence)
}
