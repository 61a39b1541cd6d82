package cli

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"bulkhead/client"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newTemplate(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "template",
		Short: "Prepare the machines that sandboxes start from",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newTemplateBuild(a), newTemplateLs(a), newTemplateRm(a))
	return c
}

func newTemplateBuild(a *app) *cobra.Command {
	var req client.BuildRequest
	var cpus, memory, disk int
	c := &cobra.Command{
		Use:   "build NAME",
		Short: "Build a template, replacing one of the same name",
		Long: "Build a Debian machine, boot it once and keep its snapshot for sandboxes to start\n" +
			"from. What was built before on this host comes from a cache. Ctrl-C ends the build\n" +
			"and leaves nothing.",
		Example: "  bulkhead template build base\n  bulkhead template build dev --memory 1024 --package jq --build-tools",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			req.Name = args[0]
			for _, f := range []struct {
				name string
				v    *int
				to   **int
			}{{"cpus", &cpus, &req.CPUs}, {"memory", &memory, &req.MemoryMB}, {"disk", &disk, &req.DiskMB}} {
				if c.Flags().Changed(f.name) {
					*f.to = f.v
				}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return a.build(ctx, cl, req)
		},
	}
	f := c.Flags()
	f.IntVar(&cpus, "cpus", 0, "virtual CPUs (the daemon's default)")
	f.IntVar(&memory, "memory", 0, "memory in MiB (the daemon's default)")
	f.IntVar(&disk, "disk", 0, "root disk in MiB (the daemon's default)")
	f.StringArrayVar(&req.Packages, "package", nil, "Debian package to add; may be repeated")
	f.BoolVar(&req.BuildTools, "build-tools", false, "add compilers and headers")
	return c
}

func (a *app) build(ctx context.Context, cl *client.Client, req client.BuildRequest) error {
	p := &show.Progress{W: a.Stderr, Live: isTerminal(a.Stderr)}
	t, err := cl.BuildTemplate(ctx, req, p.Event)
	p.End()
	if err != nil {
		return err
	}
	a.warnBoundary(t.Accel)
	return a.answer(t, func(w io.Writer) { fmt.Fprintln(w, t.Name) })
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

func newTemplateLs(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List templates",
		Example: "  bulkhead template ls",
		Args:    cobra.NoArgs,
		RunE: a.ask(func(c *cobra.Command, cl *client.Client, _ []string) error {
			all, err := cl.Templates(c.Context())
			if err != nil {
				return err
			}
			if len(all) == 0 && a.output == "text" {
				a.say("no templates; build one: bulkhead template build base")
			}
			return a.answer(all, func(w io.Writer) {
				if len(all) == 0 {
					return
				}
				fmt.Fprintln(w, "NAME\tCPUS\tMEMORY\tDISK\tKERNEL\tOWN\tUSED\tAGE")
				for _, t := range all {
					fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%d\t%s\n", show.Clip(t.Name, 14), t.CPUs, show.Bytes(int64(t.MemoryMB)<<20),
						show.Bytes(int64(t.DiskMB)<<20), show.Clip(t.Kernel, 8), show.Bytes(t.OwnBytes), t.Sandboxes, show.Age(time.Since(t.CreatedAt)))
				}
			})
		}),
	}
}

func newTemplateRm(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "rm NAME",
		Short:             "Remove a template; sandboxes made from it stay",
		Example:           "  bulkhead template rm base",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTemplates,
		RunE: a.ask(func(c *cobra.Command, cl *client.Client, args []string) error {
			return cl.RemoveTemplate(c.Context(), args[0])
		}),
	}
}
