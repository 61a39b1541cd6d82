package cli

import (
	"bulkhead/internal/cli/app"
	"context"

	"github.com/spf13/cobra"
)

type shellOptions struct{ user string }

func newShellCommand(a *app.App) *cobra.Command {
	var o shellOptions
	c := &cobra.Command{
		Use:   "shell SANDBOX",
		Short: "Open a shell in a sandbox",
		Long: "Open a login shell in a sandbox, as root unless told otherwise. If standard input is\n" +
			"no terminal, the shell reads it as a script.",
		Example: "  bulkhead shell otter",
		Args:    cobra.ExactArgs(1), Annotations: passes(),
		ValidArgsFunction: a.CompleteSandboxes,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return runShell(ctx, a, o, args) }),
	}
	c.Flags().StringVarP(&o.user, "user", "u", "root", "user inside")
	return c
}

func runShell(ctx context.Context, a *app.App, o shellOptions, args []string) error {
	return runExec(ctx, a, execOptions{user: o.user, interactive: true, terminal: a.ByHand()},
		[]string{args[0], "bash", "-l"})
}
