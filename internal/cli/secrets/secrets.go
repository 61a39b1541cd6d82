// Package secrets is the group of commands about what sandboxes may use and
// never see: bulkhead secret.
//
// A value comes from standard input only: on a command line, everybody on the
// host could read it.
package secrets

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"bulkhead/internal/cli/app"

	"github.com/spf13/cobra"
)

// NewCommand returns the group.
func NewCommand(a *app.App) *cobra.Command {
	c := &cobra.Command{
		Use:   "secret",
		Short: "Keep what sandboxes may use and never see",
		Long: "Keep keys and tokens on the host, sealed. Where a sandbox's policy says so, HTTPS\n" +
			"requests to one name carry them; the sandbox itself never has them.",
		Example: "  bulkhead secret set openai\n" +
			"  bulkhead egress allow otter api.openai.com --secret openai \\\n    --header 'Authorization: Bearer {}'",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newSet(a), newLs(a), newRm(a))
	return c
}

func newSet(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use: "set NAME", Short: "Set a value, read from standard input",
		Long: "Set the value of a secret, in place of an older one; it counts from the next request\n" +
			"on. The value is the first line of standard input and is not shown as it is typed.",
		Example: "  bulkhead secret set openai < key.txt",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: complete(a),
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			value, err := a.Hidden("value of " + args[0])
			if err != nil {
				return err
			}
			return a.API.SetSecret(ctx, args[0], value)
		}),
	}
}

func newLs(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List secrets, without their values",
		Long:    "List secrets and the sandboxes whose policy lets them use one. Values are never shown.",
		Example: "  bulkhead secret ls",
		Args:    cobra.NoArgs,
		RunE: a.Ask(func(ctx context.Context, _ []string) error {
			all, err := a.API.Secrets(ctx)
			if err != nil {
				return err
			}
			return a.Answer(all, func(w io.Writer) {
				fmt.Fprintln(w, "NAME\tSET\tUSED BY")
				for _, s := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, s.Set.Local().Format(time.DateTime), strings.Join(s.UsedBy, ", "))
				}
			})
		}),
	}
}

func newRm(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "Remove a secret",
		Long: "Remove a secret for good. Requests of sandboxes that need it are refused from then on;\n" +
			"what was sent before is not undone.",
		Example: "  bulkhead secret rm openai",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: complete(a),
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			all, err := a.API.Secrets(ctx)
			if err != nil {
				return err
			}
			if err := a.API.RemoveSecret(ctx, args[0]); err != nil {
				return err
			}
			for _, s := range all {
				if s.Name == args[0] && len(s.UsedBy) > 0 {
					a.Say("still named by the policy of %s: requests that need it are refused", strings.Join(s.UsedBy, ", "))
				}
			}
			return nil
		}),
	}
}

// complete offers secrets for the first argument.
func complete(a *app.App) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.Names(c, func(ctx context.Context) (list []string, err error) {
			all, err := a.API.Secrets(ctx)
			for _, s := range all {
				list = append(list, s.Name)
			}
			return list, err
		})
	}
}
