package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/fault"

	"github.com/spf13/cobra"
)

func newEventsCommand(a *app.App) *cobra.Command {
	var q client.EventQuery
	var since string
	c := &cobra.Command{
		Use:   "events",
		Short: "Show what happened",
		Long: "Show the event log, oldest first, one event a line, as JSON too. With --follow it\n" +
			"waits for what happens next.",
		Example: "  bulkhead events --follow\n  bulkhead events --sandbox otter --kind egress.denied --since 1h",
		Args:    cobra.NoArgs,
		RunE: a.Ask(func(ctx context.Context, _ []string) error {
			if err := parseSince(since, &q); err != nil {
				return err
			}
			return a.API.Events(ctx, q, func(e client.Event) error {
				if a.Output == "json" {
					return show.JSON(a.Stdout, e, false)
				}
				_, err := fmt.Fprintln(a.Stdout, show.Event(e))
				return err
			})
		}),
	}
	c.Flags().BoolVarP(&q.Follow, "follow", "f", false, "wait for further events")
	c.Flags().StringVar(&q.Sandbox, "sandbox", "", "leave out events of others than this `sandbox`")
	c.Flags().StringVar(&q.Type, "kind", "", "leave out events of other kinds, like egress or egress.denied")
	c.Flags().StringVar(&since, "since", "", "leave out events before a `time`: 1h, 2026-01-31T12:00:00Z, or an event's number")
	c.AddCommand(newVerifyCommand(a))
	return c
}

// parseSince reads how long ago, since when, or after which event.
func parseSince(text string, q *client.EventQuery) (err error) {
	if text == "" {
		return nil
	}
	if q.Since, err = strconv.ParseUint(text, 10, 64); err == nil {
		return nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		q.After = time.Now().Add(-ago)
		return nil
	}
	for _, form := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if q.After, err = time.ParseInLocation(form, text, time.Local); err == nil {
			return nil
		}
	}
	return fault.New(fault.Invalid, "--since: %q is no time", text).
		Hint("give a duration like 1h, a time like 2026-01-31T12:00:00Z, or an event's number")
}

func newVerifyCommand(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "Find out whether a line of the event log was edited or removed",
		Long: "Check the event log from its first line to its last: each carries the digest of the\n" +
			"one before. Keep the digest that is printed elsewhere: with it, whoever rewrites the\n" +
			"whole log is found out too.",
		Example: "  bulkhead events verify",
		Args:    cobra.NoArgs,
		RunE: a.Ask(func(ctx context.Context, _ []string) error {
			r, err := a.API.VerifyEvents(ctx)
			if err != nil {
				return err
			}
			return a.Answer(r, func(w io.Writer) {
				fmt.Fprintf(w, "events %d to %d are as they were written; the last line's digest is\n%s\n", r.First, r.Last, r.Hash)
			})
		}),
	}
}
