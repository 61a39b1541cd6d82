package cli

import (
	"fmt"
	"io"

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
				return usageError{fmt.Errorf("--tail %d is negative", tail)}
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
				out = plain{out}
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

// plain writes text without what could steer a terminal: of the bytes below
// 0x20 only line breaks and tabs, and no C1 controls.
type plain struct{ w io.Writer }

func (p plain) Write(b []byte) (int, error) {
	clean := make([]byte, 0, len(b))
	for _, c := range b {
		if c == '\n' || c == '\t' || c >= 0x20 && c < 0x7f || c >= 0xa0 {
			clean = append(clean, c)
		}
	}
	if _, err := p.w.Write(clean); err != nil {
		return 0, err
	}
	return len(b), nil
}
