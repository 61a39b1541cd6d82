package cli

import (
	"context"
	"os/signal"
	"syscall"

	"bulkhead/internal/cli/app"
	"bulkhead/internal/config"

	"github.com/spf13/cobra"
)

func newServeCommand(a *app.App) *cobra.Command {
	values := map[string]*string{}
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the host daemon",
		Long: "Run the host daemon until it is told to end (SIGTERM, SIGINT). Sandboxes keep\n" +
			"running; the next daemon takes them over.",
		Example: "  bulkhead serve --state-dir /var/lib/bulkhead",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return runServe(c.Context(), a, values) },
	}
	for _, k := range config.Keys() {
		if k.Name != "state_dir" && k.Name != "socket" { // are flags of every command
			values[k.Name] = c.Flags().String(k.Flag(), "", k.Help)
		}
	}
	return c
}

func runServe(ctx context.Context, a *app.App, values map[string]*string) error {
	override := map[string]string{}
	for name, v := range values {
		if *v != "" {
			override[name] = *v
		}
	}
	cfg, err := a.Config(override)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return a.Serve(ctx, cfg)
}
