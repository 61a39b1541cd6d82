package cli

import (
	"fmt"
	"io"

	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newLogs(a *app) *cobra.Command {
	var follow, raw bool
	var tail int
	c := &cobra.Command{
		Use:   "logs SANDBOX",
		Short: "Show a sandbox's console",
		Long: "Show what the guest's kernel and init printed on the console. On a terminal escape\n" +
			"sequences are taken out: they are the guest's, and could do things to your screen.",
		Example:           "  bulkhead logs -f otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(c *cobra.Command, args []string) error {
			if tail < 0 {
				return badUsage(c, fmt.Errorf("--tail %d is negative", tail))
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			r, err := cl.Console(c.Context(), args[0], tail, follow)
			if err != nil {
				return err
			}
			defer r.Close()
			var out io.Writer = a.Stdout
			if isTerminal(a.Stdout) && !raw {
				out = show.Plain(out)
			}
			_, err = io.Copy(out, r)
			return err
		},
	}
	f := c.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on as the guest prints")
	f.IntVar(&tail, "tail", 64<<10, "begin this many bytes before the end")
	f.BoolVar(&raw, "raw", false, "leave escape sequences in")
	return c
}
