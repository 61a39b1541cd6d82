// Package power is the commands that start, pause, resume and fork machines.
package power

import (
	"context"
	"errors"
	"fmt"
	"io"

	"bulkhead/client"
	"bulkhead/internal/cli/app"

	"github.com/spf13/cobra"
)

// NewPause returns bulkhead pause.
func NewPause(a *app.App) *cobra.Command {
	var req client.PauseRequest
	var all bool
	c := &cobra.Command{
		Use:   "pause SANDBOX... | --all",
		Short: "Write machines out; they cost nothing but disk until they are needed",
		Long: "Write running machines out and end their VMMs: no process, memory or network is left.\n" +
			"Whatever is asked of one (exec, shell, cp, a port) brings it back where it was.",
		Example:           "  bulkhead pause otter\n  bulkhead pause --all",
		ValidArgsFunction: a.CompleteSandboxes,
		Args: func(c *cobra.Command, args []string) error {
			if all {
				return cobra.NoArgs(c, args)
			}
			return cobra.MinimumNArgs(1)(c, args)
		},
		RunE: a.Ask(func(ctx context.Context, args []string) (err error) {
			if all {
				args, err = running(ctx, a)
			}
			if err != nil {
				return err
			}
			return pause(ctx, a, args, req)
		}),
	}
	c.Flags().BoolVar(&req.Stay, "stay", false, "only bulkhead resume brings them back")
	c.Flags().BoolVar(&req.UntilBoot, "until-boot", false, "the host goes down: resume them once it has started again")
	c.MarkFlagsMutuallyExclusive("stay", "until-boot")
	c.Flags().BoolVar(&all, "all", false, "all that run")
	return c
}

// pause pauses one after the other, as each takes all of the disk. It goes on
// after one that fails.
func pause(ctx context.Context, a *app.App, refs []string, req client.PauseRequest) error {
	paused := []client.Sandbox{}
	var errs []error
	for _, ref := range refs {
		done := a.Wait("writing out " + ref)
		s, err := a.API.Pause(ctx, ref, req)
		done()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		paused = append(paused, s)
	}
	err := a.Answer(paused, names(paused...))
	return errors.Join(append(errs, err)...)
}

// running lists the ids of all sandboxes that run.
func running(ctx context.Context, a *app.App) (ids []string, err error) {
	all, err := a.API.Sandboxes(ctx)
	for _, s := range all {
		if s.State == client.StateRunning || s.State == client.StateSuspended {
			ids = append(ids, s.ID)
		}
	}
	return ids, err
}

// NewResume returns bulkhead resume.
func NewResume(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "resume SANDBOX",
		Short: "Bring a paused machine back where it was",
		Long: "Bring a paused machine back where it was: its processes go on, with a right clock\n" +
			"and fresh randomness.",
		Example:           "  bulkhead resume otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			done := a.Wait("bringing back " + args[0])
			s, err := a.API.Resume(ctx, args[0])
			done()
			if err != nil {
				return err
			}
			return a.Answer(s, names(s))
		}),
	}
}

// NewFork returns bulkhead fork.
func NewFork(a *app.App) *cobra.Command {
	req := client.ForkRequest{}
	c := &cobra.Command{
		Use:   "fork [SANDBOX] [SNAPSHOT]",
		Short: "Make sandboxes that go on from one moment of another",
		Long: "Make new sandboxes from one moment of a sandbox, now or a snapshot, side by side.\n" +
			"Each has its own identity, network and policy; the source goes on. It prints their\n" +
			"names. The id of a snapshot needs no SANDBOX.",
		Example:           "  bulkhead fork otter --count 3\n  bulkhead fork otter monday --name monday-otter",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.CompleteSandboxThenSnapshot,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			sandbox, snapshots, err := a.Moments(ctx, args, 1)
			if err != nil {
				return err
			}
			if len(snapshots) > 0 {
				req.Snapshot = snapshots[0]
			}
			done := a.Wait("forking " + sandbox)
			all, err := a.API.Fork(ctx, sandbox, req)
			done()
			if err != nil {
				return err
			}
			return a.Answer(all, names(all...))
		}),
	}
	c.Flags().IntVarP(&req.Count, "count", "c", 1, "how many")
	c.Flags().StringVarP(&req.Name, "name", "n", "", "name, with numbers if there are several (made up)")
	return c
}

// NewStart returns bulkhead start.
func NewStart(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "start SANDBOX",
		Short: "Boot a stopped or crashed sandbox from its disk",
		Long: "Boot a stopped or crashed sandbox from its disk as it is. What was only in memory\n" +
			"is lost; a rollback brings memory back too.",
		Example:           "  bulkhead start otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			done := a.Wait("booting " + args[0])
			s, err := a.API.Start(ctx, args[0])
			done()
			if err != nil {
				return err
			}
			return a.Answer(s, names(s))
		}),
	}
}

// NewRestart returns bulkhead restart.
func NewRestart(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "restart SANDBOX",
		Short: "End a machine at once and boot it from its disk",
		Long: "End a machine at once, as if its power failed, and boot it from its disk. What was\n" +
			"only in memory is lost; a rollback brings memory back too.",
		Example:           "  bulkhead restart otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			done := a.Wait("booting " + args[0])
			s, err := a.API.Restart(ctx, args[0])
			done()
			if err != nil {
				return err
			}
			return a.Answer(s, names(s))
		}),
	}
}

// names is the text of an answer about sandboxes.
func names(all ...client.Sandbox) func(io.Writer) {
	return func(w io.Writer) {
		for _, s := range all {
			fmt.Fprintln(w, s.Name)
		}
	}
}
