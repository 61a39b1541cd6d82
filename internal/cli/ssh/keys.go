// Package ssh is the commands about the ways into sandboxes by SSH: whose keys
// are good, and what the client's configuration must say.
package ssh

import (
	"context"
	"fmt"
	"io"
	"os"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

// maxFile bounds what is read of a key.
const maxFile = 64 << 10

// NewKeys returns the group of commands about keys.
func NewKeys(a *app.App) *cobra.Command {
	c := &cobra.Command{
		Use:   "ssh-key",
		Short: "Say whose keys let them into sandboxes by SSH",
		Long: "Add, list and remove the public keys by which people reach the sandboxes of their\n" +
			"team with ssh, scp, sftp and rsync. There are no passwords.",
		Example: "  bulkhead ssh-key add ~/.ssh/id_ed25519.pub\n  ssh -p 2222 otter@localhost",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newAdd(a), newLs(a), newRm(a))
	return c
}

func newAdd(a *app.App) *cobra.Command {
	var req client.SSHKeyRequest
	c := &cobra.Command{
		Use: "add FILE", Short: "Let the owner of a key in",
		Long: "Let whoever has the private half of a public key into the sandboxes of a team. FILE is a\n" +
			".pub file, or - for standard input; the key goes by its comment unless a name is given.",
		Example: "  bulkhead ssh-key add ~/.ssh/id_ed25519.pub --name anna",
		Args:    cobra.ExactArgs(1),
		RunE: a.Ask(func(ctx context.Context, args []string) (err error) {
			if req.Key, err = read(a, args[0]); err != nil {
				return err
			}
			key, err := a.API.AddSSHKey(ctx, req)
			if err != nil {
				return err
			}
			return a.Answer(key, func(w io.Writer) {
				fmt.Fprintf(w, "%s lets its owner into the sandboxes of team %s\n", show.OneLine(key.Name), key.Team)
			})
		}),
	}
	c.Flags().StringVar(&req.Name, "name", "", "what the key goes by (its comment)")
	c.Flags().StringVar(&req.Team, "team", "", "whose sandboxes it opens (your own team's)")
	return c
}

func read(a *app.App, file string) (string, error) {
	in := a.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxFile))
	return string(b), err
}

func newLs(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the keys that let somebody in", Args: cobra.NoArgs,
		Long: "List the keys that let somebody in, by team and name.", Example: "  bulkhead ssh-key ls",
		RunE: a.Ask(func(ctx context.Context, _ []string) error {
			all, err := a.API.SSHKeys(ctx)
			if err != nil {
				return err
			}
			return a.Answer(all, func(w io.Writer) {
				fmt.Fprintln(w, "NAME\tTEAM\tFINGERPRINT")
				for _, k := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\n", show.OneLine(k.Name), k.Team, k.Fingerprint)
				}
			})
		}),
	}
}

func newRm(a *app.App) *cobra.Command {
	var team string
	c := &cobra.Command{
		Use: "rm NAME", Short: "Let the owner of a key in no more",
		Long:    "Remove a key, by its name or fingerprint, and cut the connections that were made with it.",
		Example: "  bulkhead ssh-key rm anna",
		Args:    cobra.ExactArgs(1),
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			return a.API.RemoveSSHKey(ctx, args[0], team)
		}),
	}
	c.Flags().StringVar(&team, "team", "", "whose it is, if several teams have such a key")
	return c
}
