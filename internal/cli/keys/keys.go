// Package keys is the group of commands about who else may use the API:
// bulkhead key.
//
// A key's value is an answer, printed once; nothing else here ever has one.
package keys

import (
	"context"
	"fmt"
	"io"
	"time"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

// NewCommand returns the group.
func NewCommand(a *app.App) *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "Say who else may use the API",
		Long: "Make and revoke the keys with which programs use the API by TCP, as far as the\n" +
			"daemon listens there (listen, listen_tls). The unix socket needs none.",
		Example: "  bulkhead key create ci --scope operate\n  bulkhead key revoke ci",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newCreate(a), newLs(a), newRevoke(a))
	return c
}

func newCreate(a *app.App) *cobra.Command {
	var req client.KeyRequest
	var expires time.Duration
	c := &cobra.Command{
		Use: "create NAME", Short: "Make a key and print it, once",
		Long: "Make a key and print it; only its hash is kept, so nobody can print it again. The\n" +
			"scope read looks, operate also makes, uses and removes sandboxes, admin also decides\n" +
			"what they may talk to. With --sandbox, the key is for that one alone, to be given to\n" +
			"an agent: it cannot change its own policy.",
		Example: "  bulkhead key create ci --team acme --expires 720h\n  bulkhead key create otter-agent --sandbox otter",
		Args:    cobra.ExactArgs(1),
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			req.Name = args[0]
			if expires != 0 {
				at := time.Now().Add(expires)
				req.ExpiresAt = &at
			}
			k, err := a.API.CreateKey(ctx, req)
			if err != nil {
				return err
			}
			a.Say("key %s of team %s; keep it, it is shown this once:", k.Name, k.Team)
			return a.Answer(k, func(w io.Writer) { fmt.Fprintln(w, k.Value) })
		}),
	}
	f := c.Flags()
	f.StringVar(&req.Team, "team", "", "whose sandboxes there are for it (default)")
	f.StringVar(&req.Scope, "scope", "", "how much it may do: read, operate or admin (operate)")
	f.StringVar(&req.Sandbox, "sandbox", "", "the only sandbox that it is for")
	f.DurationVar(&expires, "expires", 0, "how long it is good, like 720h (for ever)")
	return c
}

func newLs(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List keys, without their values",
		Long:    "List keys, whose they are, what they may do, and when they were used last.",
		Example: "  bulkhead key ls",
		Args:    cobra.NoArgs,
		RunE: a.Ask(func(ctx context.Context, _ []string) error {
			all, err := a.API.Keys(ctx)
			if err != nil {
				return err
			}
			return a.Answer(all, func(w io.Writer) {
				fmt.Fprintln(w, "NAME\tTEAM\tSCOPE\tSANDBOX\tEXPIRES\tUSED")
				for _, k := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", show.Clip(k.Name, 20), show.Clip(k.Team, 14), k.Scope,
						show.Short(k.SandboxID), day(k.ExpiresAt), day(k.UsedAt))
				}
			})
		}),
	}
}

// day shows a time that may not be.
func day(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.Local().Format(time.DateOnly)
}

func newRevoke(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "End a key for good",
		Long:    "End a key for good. What goes on for it ends at once, streams included.",
		Example: "  bulkhead key revoke ci",
		Args:    cobra.ExactArgs(1),
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.Names(c, func(ctx context.Context) (list []string, err error) {
				all, err := a.API.Keys(ctx)
				for _, k := range all {
					list = append(list, k.Name)
				}
				return list, err
			})
		},
		RunE: a.Ask(func(ctx context.Context, args []string) error { return a.API.RevokeKey(ctx, args[0]) }),
	}
}
