package perimeter

import (
	"context"
	"fmt"
	"io"
	"time"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newPending(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use: "pending", Short: "List what waits for your answer",
		Long: "List the destinations that connections of sandboxes wait for: those that their policy\n" +
			"says to ask about. Without an answer within a minute they are refused.",
		Example: "  bulkhead egress pending",
		Args:    cobra.NoArgs,
		RunE: a.Ask(func(ctx context.Context, _ []string) error {
			all, err := a.API.EgressPending(ctx)
			if err != nil {
				return err
			}
			if len(all) == 0 && a.Output == "text" {
				a.Say("nothing waits")
			}
			return a.Answer(all, func(w io.Writer) {
				for _, q := range all {
					fmt.Fprintf(w, "%s\t%s\t%d waiting\tfor %s\n", q.Sandbox, show.OneLine(q.Destination), q.Waiting,
						show.Age(time.Since(q.Since)))
				}
			})
		}),
	}
}

func newAnswer(a *app.App, allow bool) *cobra.Command {
	verb, short, more := "reject", "Refuse what waits for your answer", "\nWhat was approved for a time is not any more."
	if allow {
		verb, short, more = "approve", "Allow what waits for your answer", ""
	}
	var lasts time.Duration
	var always bool
	c := &cobra.Command{
		Use: verb + " SANDBOX DESTINATION", Short: short,
		Long: short + ": the connections that wait now, or with\n" +
			"--always from now on, as a rule of the policy, whether one waits or not." + more,
		Example: "  bulkhead egress " + verb + " otter api.example.com:443",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			answer := client.EgressAnswer{
				Destination: args[1], Allow: allow, Always: always, ForSeconds: int(lasts / time.Second),
			}
			if err := a.API.AnswerEgress(ctx, args[0], answer); err != nil {
				return err
			}
			return a.Answer(answer, app.Silence)
		}),
	}
	c.Flags().BoolVar(&always, "always", false, "make it a rule of the policy")
	if allow {
		c.Flags().DurationVar(&lasts, "for", 0, "let it count for this `time`, like 1h")
	}
	return c
}
