package power

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/fault"

	"github.com/spf13/cobra"
)

type scheduleOptions struct {
	every, idle time.Duration
	keep        string
}

// NewSchedule returns bulkhead schedule.
func NewSchedule(a *app.App) *cobra.Command {
	var o scheduleOptions
	c := &cobra.Command{
		Use:   "schedule SANDBOX",
		Short: "Say when snapshots are taken, and when an idle machine is paused",
		Long: "Say when snapshots are taken of a sandbox, which of them stay, and after how long an\n" +
			"idle machine is paused. Nothing is taken of one in which nothing has happened. Named\n" +
			"snapshots always stay. Without flags it shows what is so; 0 ends it.",
		Example: "  bulkhead schedule otter --every 15m --keep 8,24,14 --idle-timeout 30m\n" +
			"  bulkhead schedule otter --every 0",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.CompleteSandboxes,
	}
	f := c.Flags()
	f.DurationVar(&o.every, "every", 0, "take a snapshot so often, like 15m")
	f.StringVar(&o.keep, "keep", "8,24,14", "how many stay: the last, and of so many hours and days the last")
	f.DurationVar(&o.idle, "idle-timeout", 0, "pause the machine when nothing happens for so long, like 30m")
	c.RunE = a.Ask(func(ctx context.Context, args []string) error {
		s, err := a.API.Sandbox(ctx, args[0])
		if err != nil {
			return err
		}
		if f.Changed("every") || f.Changed("keep") || f.Changed("idle-timeout") {
			req, err := o.over(s.Schedule, f.Changed)
			if err != nil {
				return err
			}
			if s, err = a.API.SetSchedule(ctx, s.ID, req); err != nil {
				return err
			}
		}
		return a.Answer(s.Schedule, func(w io.Writer) { fmt.Fprintln(w, show.Schedule(s.Schedule)) })
	})
	return c
}

// over returns the schedule with what the flags change.
func (o scheduleOptions) over(was *client.Schedule, changed func(string) bool) (s client.Schedule, err error) {
	if was != nil {
		s = *was
	}
	if changed("every") {
		s.EverySeconds = int(o.every / time.Second)
	}
	if changed("idle-timeout") {
		s.IdleSeconds = int(o.idle / time.Second)
	}
	if changed("keep") {
		s.Keep, err = parseKeep(o.keep)
	}
	return s, err
}

func parseKeep(text string) (client.Keep, error) {
	var n [3]int
	parts := strings.Split(text, ",")
	for i, part := range parts {
		v, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || len(parts) != len(n) {
			return client.Keep{}, fault.New(fault.Invalid, "--keep %q is not three numbers", text).Hint("write LAST,HOURLY,DAILY, like 8,24,14")
		}
		n[i] = v
	}
	return client.Keep{Last: n[0], Hourly: n[1], Daily: n[2]}, nil
}
