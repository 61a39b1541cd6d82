package perimeter

import (
	"context"
	"fmt"
	"io"
	"time"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/fault"

	"github.com/spf13/cobra"
)

func newLearn(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use: "learn SANDBOX start|stop|propose", Short: "Make a policy of what a sandbox talks to",
		Long: "Record what a sandbox talks to, and propose the smallest policy that allows what was\n" +
			"allowed. Recording allows nothing: set a wide policy first, and the proposal after.\n" +
			"The proposal is printed as a document, what it changes beside it.",
		Example: "  bulkhead egress set otter public\n  bulkhead egress learn otter start\n" +
			"  bulkhead egress learn otter propose > policy.yaml\n  bulkhead egress set otter policy.yaml",
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			switch args[1] {
			case "start", "stop":
				return a.API.LearnEgress(ctx, args[0], args[1] == "start")
			case "propose":
				return propose(ctx, a, args[0])
			}
			return fault.New(fault.Invalid, "%q is not start, stop or propose", args[1])
		}),
	}
}

func propose(ctx context.Context, a *app.App, ref string) error {
	l, err := a.API.EgressLearned(ctx, ref)
	if err != nil {
		return err
	}
	if l.Since.IsZero() {
		return fault.New(fault.WrongState, "nothing was recorded of %s", ref).Hint("bulkhead egress learn %s start", ref)
	}
	a.Say("recorded since %s:", l.Since.Local().Format(time.DateTime))
	for _, s := range l.Seen {
		word := "refused"
		if s.Allowed {
			word = "allowed"
		}
		a.Say("  %s %s, %d x", word, show.OneLine(s.Destination), s.Count)
	}
	if l.Unrecorded > 0 {
		a.Say("  and %d that there was no room for", l.Unrecorded)
	}
	a.Say("what the proposal changes:")
	for _, line := range l.Changes {
		a.Say("  %s", line)
	}
	return a.Answer(l, func(w io.Writer) { fmt.Fprint(w, l.Proposal) })
}

func newReplay(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use: "replay SANDBOX PRESET|FILE", Short: "What would another policy have decided otherwise?",
		Long: "Say what another policy would have decided otherwise about what was recorded (see\n" +
			"bulkhead egress learn). Nothing is changed.",
		Example: "  bulkhead egress replay otter policy.yaml",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			req, err := policyFrom(a, args[1])
			if err != nil {
				return err
			}
			all, err := a.API.ReplayEgress(ctx, args[0], req)
			if err != nil {
				return err
			}
			return a.Answer(all, func(w io.Writer) { replayed(w, all) })
		}),
	}
}

func replayed(w io.Writer, all []client.EgressChange) {
	for _, c := range all {
		before := "refused"
		if c.Allowed {
			before = "allowed"
		}
		fmt.Fprintf(w, "%s\twas %s\tnow %s\t%s\n", show.OneLine(c.Destination), before, c.Now, show.OneLine(c.Rule))
	}
	if len(all) == 0 {
		fmt.Fprintln(w, "nothing that was recorded would be decided otherwise")
	}
}
