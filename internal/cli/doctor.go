package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newDoctorCommand(a *app.App) *cobra.Command {
	var caged string
	var attack bool
	c := &cobra.Command{
		Use:   "doctor [--attack [SANDBOX]]",
		Short: "Check whether this host is fit, and say how to mend it",
		Long: "Check this host: accelerator, kernel, tools, storage. Each finding comes with the\n" +
			"command that mends it; one that says fail keeps sandboxes from running.\n\n" +
			"With --jail, ask the kernel what the VMM of a running sandbox may be and do, and\n" +
			"fail if that differs in anything from what its cage must be.\n\n" +
			"With --attack, try to get out of a cage as whoever took over a VMM would, and fail\n" +
			"if a wall does not hold. Nothing else on the host is touched. With a sandbox, the\n" +
			"attempts aim at its VMM, its memory and its sockets. Run it after each upgrade of\n" +
			"the kernel or the VMM.",
		Example: "  bulkhead doctor\n  bulkhead doctor --jail otter\n  bulkhead doctor --attack",
		Args: func(c *cobra.Command, args []string) error {
			if attack {
				return cobra.MaximumNArgs(1)(c, args)
			}
			return cobra.NoArgs(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case caged != "":
				return a.Ask(func(ctx context.Context, _ []string) error { return runDoctorJail(ctx, a, caged) })(c, args)
			case attack && len(args) == 1:
				return a.Ask(func(ctx context.Context, args []string) error { return runDoctorVictim(ctx, a, args[0]) })(c, args)
			case attack:
				return runDoctorAttack(c.Context(), a, nil)
			}
			return runDoctor(c.Context(), a)
		},
	}
	c.Flags().BoolVar(&attack, "attack", false, "try to get out of a cage")
	c.Flags().StringVar(&caged, "jail", "", "verify the cage of this running `sandbox`")
	_ = c.RegisterFlagCompletionFunc("jail", a.CompleteSandboxes) // fails only for an unknown flag
	return c
}

// runDoctorJail verifies the cage of a sandbox's VMM.
func runDoctorJail(ctx context.Context, a *app.App, ref string) error {
	s, err := a.API.Sandbox(ctx, ref)
	if err != nil {
		return err
	}
	if s.VMM == nil || s.VMM.Cage == nil {
		return fmt.Errorf("%s has no VMM to look at: it is %s", s.Name, s.State)
	}
	cage := s.VMM.Cage
	if err := a.Answer(cage, func(w io.Writer) { show.Cage(w, cage) }); err != nil {
		return err
	}
	if n := len(cage.Differences); n > 0 {
		return fmt.Errorf("the cage of %s is broken in %d ways; end it: bulkhead rm %s", s.Name, n, s.Name)
	}
	a.Say("the cage of %s is whole", s.Name)
	return nil
}

func runDoctor(ctx context.Context, a *app.App) error {
	cfg, err := a.Config(map[string]string{})
	if err != nil {
		return err
	}
	checks := a.Doctor(ctx, cfg)
	err = a.Answer(checks, func(w io.Writer) {
		const indent = "      "
		for _, c := range checks {
			fmt.Fprintln(w, show.Fold(fmt.Sprintf("%-4s  %s: %s", c.Status, c.Name, c.Detail), indent))
			if c.Mend != "" {
				fmt.Fprintf(w, "%smend: %s\n", indent, c.Mend) // whole, to be copied
			}
		}
	})
	for _, check := range checks {
		if check.Status == "fail" && err == nil {
			err = errors.New("this host is not fit yet")
		}
	}
	return err
}

// runDoctorVictim has the attempts aim at a running sandbox.
func runDoctorVictim(ctx context.Context, a *app.App, ref string) error {
	s, err := a.API.Sandbox(ctx, ref)
	if err != nil {
		return err
	}
	if s.VMM == nil {
		return fmt.Errorf("%s has no VMM to aim at: it is %s", s.Name, s.State)
	}
	return runDoctorAttack(ctx, a, &s)
}

func runDoctorAttack(ctx context.Context, a *app.App, victim *client.Sandbox) error {
	cfg, err := a.Config(map[string]string{})
	if err != nil {
		return err
	}
	all, holes := []Finding{}, 0
	err = a.Attack(ctx, cfg, victim, func(f Finding) {
		all = append(all, f)
		if !f.Holds {
			holes++
		}
		if a.Output == "text" {
			showFinding(a.Stdout, f)
		}
	})
	if err != nil {
		return err
	}
	if a.Output != "text" {
		if err := a.Answer(all, nil); err != nil {
			return err
		}
	}
	if holes > 0 {
		return fmt.Errorf("%d of %d attempts were not stopped as they must be: run no sandboxes here until they are", holes, len(all))
	}
	a.Say("the walls hold: %d attempts were stopped", len(all))
	return nil
}

func showFinding(w io.Writer, f Finding) {
	status, behind := "ok", ""
	switch {
	case !f.Holds:
		status = "HOLE"
		f.Got += ", must be " + f.Expected
	case f.Useless != "":
		behind = " (" + f.Useless + ")"
	case f.Unfiltered != "" && f.Unfiltered != f.Got:
		behind = ", then " + f.Unfiltered
	}
	const indent = "      "
	fmt.Fprintln(w, show.Fold(fmt.Sprintf("%-4s  %-47s %s%s", status, f.Attempt, f.Got, behind), indent))
}
