package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

type rmOptions struct{ force bool }

// addFlags is for everything that cannot be undone.
func (o *rmOptions) addFlags(c *cobra.Command) {
	c.Flags().BoolVarP(&o.force, "force", "f", false, "do not ask")
}

func newRmCommand(a *app.App) *cobra.Command {
	var o rmOptions
	c := &cobra.Command{
		Use:   "rm SANDBOX...",
		Short: "Remove sandboxes with all their snapshots",
		Long: "Remove sandboxes, their disks and every snapshot of them; it ends at the first that\n" +
			"cannot be removed. This cannot be undone, so it asks first when it is run by hand.",
		Example:           "  bulkhead rm otter",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.CompleteSandboxes,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return runRm(ctx, a, o, args) }),
	}
	o.addFlags(c)
	return c
}

// removed is the answer for one thing that is gone.
type removed struct {
	SandboxID  string `json:"sandboxID,omitempty"`
	SnapshotID string `json:"snapshotID,omitempty"`
	Name       string `json:"name,omitempty"`
}

func runRm(ctx context.Context, a *app.App, o rmOptions, args []string) (err error) {
	gone := []removed{}
	for _, ref := range args {
		var r removed
		if r, err = remove(ctx, a, ref, o); err != nil {
			break
		}
		gone = append(gone, r)
	}
	if err != nil && len(gone) == 0 {
		return err
	}
	if aerr := a.Answer(gone, app.Silence); err == nil {
		err = aerr
	}
	return err
}

func remove(ctx context.Context, a *app.App, ref string, o rmOptions) (removed, error) {
	s, err := a.API.Sandbox(ctx, ref)
	if err != nil {
		return removed{}, err
	}
	if !o.force && a.ByHand() {
		t, err := a.API.Timeline(ctx, s.ID)
		if err != nil {
			return removed{}, err
		}
		if err := confirm(a, "remove %s and its %d snapshots for good?", s.Name, len(t.Snapshots)); err != nil {
			return removed{}, err
		}
	}
	return removed{SandboxID: s.ID, Name: s.Name}, a.API.Remove(ctx, s.ID)
}

// confirm asks a question on the terminal; anything but a clear yes is an
// error.
func confirm(a *app.App, format string, args ...any) error {
	fmt.Fprintf(show.Plain(a.Stderr), format+" [y/N] ", args...)
	line, err := bufio.NewReader(a.Stdin).ReadString('\n')
	if err != nil || !strings.EqualFold(strings.TrimSpace(line), "y") {
		return fmt.Errorf("%v was not removed", args[0])
	}
	return nil
}
