package move

import (
	"context"
	"strings"

	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/archive"
	"bulkhead/internal/cli/transfer"
	"bulkhead/internal/fault"

	"github.com/spf13/cobra"
)

type cpOptions struct{ user string }

// NewCp returns bulkhead cp.
func NewCp(a *app.App) *cobra.Command {
	var o cpOptions
	c := &cobra.Command{
		Use:   "cp SOURCE TARGET",
		Short: "Copy files and folders into or out of a sandbox",
		Long: "Copy a file or folder; one of the two is SANDBOX:/path. A target that ends in /\n" +
			"or is a folder gets the source inside it. Modes are kept. Links in a folder stay\n" +
			"links; on the way out, those that lead out of it are left out, and devices too.\n" +
			"SANDBOX@SNAPSHOT:/path is a file of the past, taken without a rollback; the id of a\n" +
			"snapshot needs no SANDBOX@.",
		Example: "  bulkhead cp ./project otter:/root/\n  bulkhead cp otter:/var/log/syslog .\n" +
			"  bulkhead cp otter@monday:/root/notes .",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.CompletePaths,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return runCp(ctx, a, o, args) }),
	}
	c.Flags().StringVarP(&o.user, "user", "u", "root", "user inside")
	return c
}

func runCp(ctx context.Context, a *app.App, o cpOptions, args []string) (err error) {
	t := transfer.Transfer{API: a.API, User: o.user, Say: a.Say}
	from, out := transfer.Parse(args[0])
	to, in := transfer.Parse(args[1])
	var tally archive.Tally
	switch {
	case in == out:
		return fault.New(fault.Invalid, "one of source and target is SANDBOX:/path, the other a path here")
	case in && strings.Contains(to.Sandbox, "@"):
		return fault.New(fault.Invalid, "a snapshot never changes").Hint("copy into the sandbox: %s", to.Sandbox[:strings.Index(to.Sandbox, "@")])
	case in:
		tally, err = t.In(ctx, args[0], to)
	default:
		if from.Sandbox, err = machine(ctx, a, from.Sandbox); err == nil {
			tally, err = t.Out(ctx, from, args[1])
		}
	}
	if err != nil {
		return err
	}
	return a.Answer(tally, app.Silence)
}

// machine is what the daemon calls the machine or the past that an argument names.
func machine(ctx context.Context, a *app.App, arg string) (string, error) {
	sandbox, snapshot, err := a.Moment(ctx, arg)
	if snapshot == "" {
		return sandbox, err
	}
	return sandbox + "@" + snapshot, err
}
