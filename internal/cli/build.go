package cli

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/cli/tty"

	"github.com/spf13/cobra"
)

type buildOptions struct {
	cpus, memory, disk int
	packages           []string
	buildTools         bool
	image, user        string
}

func newTemplateBuildCommand(a *app.App) *cobra.Command {
	var o buildOptions
	c := &cobra.Command{
		Use:   "build NAME",
		Short: "Build a template, replacing one of the same name",
		Long: "Build a Debian machine, boot it once and keep its snapshot for sandboxes to start\n" +
			"from; what this host has built before comes from a cache. With --from-image, the\n" +
			"machine is that of a container image. Ctrl-C leaves nothing.",
		Example: "  bulkhead template build base\n  bulkhead template build dev --memory 1024 --package jq --build-tools\n" +
			"  bulkhead template build node --from-image node:22\n" +
			"  bulkhead template build ours --from-image ghcr.io/us/ours:1 --registry-user me < token.txt",
		Args: cobra.ExactArgs(1),
	}
	c.RunE = a.Ask(func(ctx context.Context, args []string) error {
		req := client.BuildRequest{Name: args[0], Packages: o.packages, BuildTools: o.buildTools, FromImage: o.image}
		if o.user != "" {
			password, err := a.Hidden("password of " + o.user + " for the registry")
			if err != nil {
				return err
			}
			req.Registry = &client.Registry{Type: "registry", Username: o.user, Password: password}
		}
		// Zero is a number like any other, and the daemon's to refuse.
		for name, to := range map[string]**int{"cpus": &req.CPUs, "memory": &req.MemoryMB, "disk": &req.DiskMB} {
			if c.Flags().Changed(name) {
				*to = map[string]*int{"cpus": &o.cpus, "memory": &o.memory, "disk": &o.disk}[name]
			}
		}
		return runTemplateBuild(ctx, a, req)
	})
	f := c.Flags()
	f.IntVar(&o.cpus, "cpus", 0, "virtual CPUs (the daemon's default)")
	f.IntVar(&o.memory, "memory", 0, "memory in MiB (the daemon's default)")
	f.IntVar(&o.disk, "disk", 0, "root disk in MiB (the daemon's default)")
	f.StringArrayVar(&o.packages, "package", nil, "Debian package to add; may be repeated")
	f.BoolVar(&o.buildTools, "build-tools", false, "add compilers and headers")
	f.StringVar(&o.image, "from-image", "", "container image to build on, instead of Debian's packages")
	f.StringVar(&o.user, "registry-user", "", "user for its registry; the password is read from standard input")
	return c
}

func runTemplateBuild(ctx context.Context, a *app.App, req client.BuildRequest) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	p := &show.Progress{W: a.Stderr, Live: tty.Is(a.Stderr)}
	t, err := a.API.BuildTemplate(ctx, req, p.Event)
	p.End()
	if err != nil {
		return err
	}
	a.WarnBoundary(t.Accel)
	return a.Answer(t, func(w io.Writer) { fmt.Fprintln(w, t.Name) })
}
