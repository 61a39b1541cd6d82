package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newDoctorCommand(a *app) *cobra.Command {
	var caged string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this host is fit, and say how to mend it",
		Long: "Check this host: accelerator, kernel, tools, storage. Each finding comes with the\n" +
			"command that mends it; one that says fail keeps sandboxes from running.\n\n" +
			"With --jail, ask the kernel what the VMM of a running sandbox may be and do, and\n" +
			"fail if that differs in anything from what its cage must be.",
		Example: "  bulkhead doctor\n  bulkhead doctor --jail otter",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if caged == "" {
				return runDoctor(c.Context(), a)
			}
			return a.ask(func(ctx context.Context, _ []string) error { return runDoctorJail(ctx, a, caged) })(c, args)
		},
	}
	c.Flags().StringVar(&caged, "jail", "", "verify the cage of this running `sandbox`")
	_ = c.RegisterFlagCompletionFunc("jail", a.completeSandboxes) // fails only for an unknown flag
	return c
}

// runDoctorJail verifies the cage of a sandbox's VMM.
func runDoctorJail(ctx context.Context, a *app, ref string) error {
	s, err := a.api.Sandbox(ctx, ref)
	if err != nil {
		return err
	}
	if s.VMM == nil || s.VMM.Cage == nil {
		return fmt.Errorf("%s has no VMM to look at: it is %s", s.Name, s.State)
	}
	cage := s.VMM.Cage
	if err := a.answer(cage, func(w io.Writer) { show.Cage(w, cage) }); err != nil {
		return err
	}
	if n := len(cage.Differences); n > 0 {
		return fmt.Errorf("the cage of %s is broken in %d ways; end it: bulkhead rm %s", s.Name, n, s.Name)
	}
	a.say("the cage of %s is whole", s.Name)
	return nil
}

func runDoctor(ctx context.Context, a *app) error {
	cfg, err := a.config(map[string]string{})
	if err != nil {
		return err
	}
	checks := a.Doctor(ctx, cfg)
	err = a.answer(checks, func(w io.Writer) {
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
