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
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this host is fit, and say how to mend it",
		Long: "Check this host: accelerator, kernel, tools, storage. Each finding comes with the\n" +
			"command that mends it; one that says fail keeps sandboxes from running.",
		Example: "  bulkhead doctor",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return runDoctor(c.Context(), a) },
	}
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
