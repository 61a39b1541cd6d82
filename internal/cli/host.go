package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"sort"
	"strings"
	"syscall"
	"time"

	"bulkhead/client"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/config"

	"github.com/spf13/cobra"
)

func newServe(a *app) *cobra.Command {
	values := map[string]*string{}
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the host daemon",
		Long: "Run the host daemon until it is told to end (SIGTERM, SIGINT). Sandboxes keep\n" +
			"running; the next daemon takes them over.",
		Example: "  bulkhead serve --state-dir /var/lib/bulkhead",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			override := map[string]string{}
			for name, v := range values {
				if *v != "" {
					override[name] = *v
				}
			}
			cfg, err := a.config(override)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return a.Serve(ctx, cfg)
		},
	}
	for _, k := range config.Keys() {
		if k.Name != "state_dir" && k.Name != "socket" { // are flags of every command
			values[k.Name] = c.Flags().String(k.Flag(), "", k.Help)
		}
	}
	return c
}

func newDoctor(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this host is fit, and say how to mend it",
		Long: "Check this host: accelerator, kernel, tools, storage. Each finding comes with the\n" +
			"command that mends it; the exit status is 1 if one of them keeps sandboxes from running.",
		Example: "  bulkhead doctor",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.config(map[string]string{})
			if err != nil {
				return err
			}
			checks := a.Doctor(c.Context(), cfg)
			if err := a.answer(checks, func(w io.Writer) { printChecks(w, checks) }); err != nil {
				return err
			}
			for _, check := range checks {
				if check.Status == "fail" {
					return errors.New("this host is not fit yet")
				}
			}
			return nil
		},
	}
}

// printChecks prints lines of at most 80 columns where words allow it.
func printChecks(w io.Writer, checks []Check) {
	for _, c := range checks {
		fmt.Fprintf(w, "%-4s  %s: %s\n", c.Status, c.Name, c.Detail)
		if c.Mend != "" {
			fmt.Fprintf(w, "      mend: %s\n", c.Mend)
		}
	}
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the versions of this program and of the daemon",
		Example: "  bulkhead version",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := struct {
				Client string       `json:"client"`
				Daemon *client.Info `json:"daemon,omitempty"`
			}{Client: a.Version}
			cl, err := a.client()
			if err != nil {
				return err
			}
			if info, err := cl.Info(c.Context()); err == nil {
				v.Daemon = &info
			}
			return a.answer(v, func(w io.Writer) {
				fmt.Fprintf(w, "bulkhead %s\n", v.Client)
				if v.Daemon != nil {
					fmt.Fprintf(w, "daemon %s, %s, process %d\n", v.Daemon.Version, v.Daemon.Accel, v.Daemon.PID)
				}
			})
		},
	}
}

func newEvents(a *app) *cobra.Command {
	var q client.EventQuery
	c := &cobra.Command{
		Use:               "events [SANDBOX]",
		Short:             "Show what happened",
		Long:              "Show the event log, oldest first. With --follow it waits for what happens next.",
		Example:           "  bulkhead events --follow",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				q.Sandbox = args[0]
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			return cl.Events(c.Context(), q, func(e client.Event) error {
				if a.output == "json" {
					return a.answer(e, nil)
				}
				_, err := fmt.Fprintf(a.Stdout, "%s %s %s%s\n", e.Time.Local().Format(time.DateTime), e.Type, show.Clip(e.SandboxID, 8), fields(e.Fields))
				return err
			})
		},
	}
	c.Flags().BoolVarP(&q.Follow, "follow", "f", false, "wait for further events")
	c.Flags().Uint64Var(&q.Since, "since", 0, "leave out events up to this number")
	return c
}

func fields(m map[string]string) string {
	var all []string
	for k, v := range m {
		all = append(all, " "+k+"="+show.OneLine(v))
	}
	sort.Strings(all)
	return strings.Join(all, "")
}

func newDebug(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "debug",
		Short: "Tools for those who repair; without promises",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var force bool
	release := &cobra.Command{
		Use:   "release",
		Short: "End the VMMs of a state directory and unmount its pool",
		Long: "End every VMM of a state directory whose daemon is gone, and unmount its pool. What\n" +
			"is on disk stays: sandboxes are found crashed by the next daemon.",
		Example: "  bulkhead debug release --state-dir /var/lib/bulkhead",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.config(map[string]string{})
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
			defer cancel()
			return a.Release(ctx, cfg, force)
		},
	}
	release.Flags().BoolVarP(&force, "force", "f", false, "end a daemon that still runs first")
	c.AddCommand(release)
	return c
}
