package cli

import (
	"context"
	"fmt"
	"io"

	"bulkhead/client"
	"bulkhead/internal/cli/app"

	"github.com/spf13/cobra"
)

func newVersionCommand(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the versions of this program and of the daemon",
		Long: "Show the version of this program, and that of the daemon if one answers. They need\n" +
			"not be the same.",
		Example: "  bulkhead version",
		Args:    cobra.NoArgs,
		RunE:    a.Ask(func(ctx context.Context, _ []string) error { return runVersion(ctx, a) }),
	}
}

func runVersion(ctx context.Context, a *app.App) error {
	v := struct {
		Client string       `json:"client"`
		Daemon *client.Info `json:"daemon,omitempty"`
	}{Client: a.Version}
	if info, err := a.API.Info(ctx); err == nil {
		v.Daemon = &info
	}
	return a.Answer(v, func(w io.Writer) {
		fmt.Fprintf(w, "bulkhead %s\n", v.Client)
		if v.Daemon != nil {
			fmt.Fprintf(w, "daemon %s, %s, process %d\n", v.Daemon.Version, v.Daemon.Accel, v.Daemon.PID)
		}
	})
}
