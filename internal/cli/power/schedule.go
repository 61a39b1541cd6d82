package power

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/fault"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type scheduleOptions struct {
	every, idle, suspend, ttl, interval time.Duration
	keep                                string
	// template says that it is for all that will be made from one.
	template bool
	// said is what the flags say of the rest.
	said   client.Schedule
	before client.Before
	// now is the time that a time to live counts from.
	now func() time.Time
}

// NewSchedule returns bulkhead schedule.
func NewSchedule(a *app.App) *cobra.Command {
	o := scheduleOptions{now: time.Now}
	c := &cobra.Command{
		Use:   "schedule SANDBOX | --template TEMPLATE",
		Short: "Say what is done for a sandbox while nobody looks",
		Long: "Say what is done for a sandbox while nobody looks: when snapshots are taken and which\n" +
			"stay (named ones always do, and nothing is taken of a machine in which nothing has\n" +
			"happened), when it is stopped for idleness and woken, how long it lives, and what becomes\n" +
			"of a machine that cannot work any more. Without flags it shows what is so; 0 or \"\" ends it.\n" +
			"That of a template is what sandboxes made from it later begin with.\n\n" +
			"A machine in which nothing happens is first stopped in memory, from where it goes on in\n" +
			"milliseconds, and later paused, which leaves nothing of it but a snapshot.\n\n" +
			"--before-exec takes a snapshot before a command that fits a pattern, like 'rm -r*', or\n" +
			"one of a group: @root, @packages, @destructive, or @any for all. What is typed into a\n" +
			"shell is not seen.",
		Example: "  bulkhead schedule otter --every 15m --keep 8,24,14 --idle-timeout 30m\n" +
			"  bulkhead schedule otter --on-unhealthy rollback --before-exec @packages\n" +
			"  bulkhead schedule otter --every 0",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.CompleteSandboxes,
	}
	o.flags(c.Flags())
	c.RunE = a.Ask(func(ctx context.Context, args []string) error {
		of := ofSandbox(a)
		if o.template {
			of = ofTemplate(a)
		}
		s, err := of(ctx, args[0], func(was *client.Schedule) (client.Schedule, bool, error) {
			return o.over(was, c.Flags().Changed)
		})
		if err != nil {
			return err
		}
		return a.Answer(s, func(w io.Writer) { fmt.Fprintln(w, strings.Join(show.Schedule(s), "\n")) })
	})
	return c
}

// scheduled changes the schedule of something, unless change says that there is
// nothing to change, and returns what it is then.
type scheduled func(ctx context.Context, ref string, change changed) (*client.Schedule, error)

type changed func(was *client.Schedule) (s client.Schedule, said bool, err error)

func ofSandbox(a *app.App) scheduled {
	return func(ctx context.Context, ref string, change changed) (*client.Schedule, error) {
		s, err := a.API.Sandbox(ctx, ref)
		if err != nil {
			return nil, err
		}
		req, said, err := change(s.Schedule)
		if err == nil && said {
			s, err = a.API.SetSchedule(ctx, s.ID, req)
		}
		return s.Schedule, err
	}
}

func ofTemplate(a *app.App) scheduled {
	return func(ctx context.Context, ref string, change changed) (*client.Schedule, error) {
		all, err := a.API.Templates(ctx)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(all, func(t client.Template) bool { return t.Name == ref })
		if i < 0 {
			return nil, fault.New(fault.NotFound, "template %q not found", ref).Hint("bulkhead template ls")
		}
		t := all[i]
		req, said, err := change(t.Schedule)
		if err == nil && said {
			t, err = a.API.SetTemplateSchedule(ctx, t.Name, req)
		}
		return t.Schedule, err
	}
}

func (o *scheduleOptions) flags(f *pflag.FlagSet) {
	f.BoolVar(&o.template, "template", false, "it is about a template, and what is made from it from now on")
	f.DurationVar(&o.every, "every", 0, "take a snapshot so often, like 15m")
	f.StringVar(&o.keep, "keep", "8,24,14", "how many stay: the last, and of so many hours and days the last")
	f.DurationVar(&o.idle, "idle-timeout", 0, "pause the machine when nothing happens for so long, like 30m")
	f.DurationVar(&o.suspend, "suspend-after", 30*time.Second, "stop it in memory when nothing happens for so long; with --idle-timeout")
	f.BoolVar(&o.said.KeepAlive, "keep-alive", false, "bring it back with the daemon, and never stop it for idleness")
	f.StringVar(&o.said.Wake, "wake", "", "resume it at this time of day, like 06:00")
	f.DurationVar(&o.ttl, "ttl", 0, "its time is over after so long, like 8h")
	f.StringVar(&o.said.Expiry, "on-expiry", "pause", "what happens then: pause or remove")
	f.StringVar(&o.said.OnUnhealthy, "on-unhealthy", "nothing", "what is done for a broken machine: nothing, reboot or rollback")
	f.StringSliceVar(&o.before.Commands, "before-exec", nil, "take a snapshot before such commands")
	f.BoolVar(&o.before.Contact, "before-contact", false, "take a snapshot before a first connection to a destination")
	f.DurationVar(&o.interval, "before-interval", 10*time.Minute, "at most so often")
}

// over returns the schedule with what the flags change, and whether they say
// anything.
func (o *scheduleOptions) over(was *client.Schedule, changed func(string) bool) (s client.Schedule, said bool, err error) {
	if was != nil {
		s = *was
	}
	before := client.Before{}
	if s.Before != nil {
		before = *s.Before
	}
	for name, change := range map[string]func(){
		"every":           func() { s.EverySeconds = int(o.every / time.Second) },
		"idle-timeout":    func() { s.IdleSeconds = int(o.idle / time.Second) },
		"suspend-after":   func() { s.SuspendSeconds = o.suspendSeconds() },
		"keep":            func() { s.Keep, err = parseKeep(o.keep) },
		"keep-alive":      func() { s.KeepAlive = o.said.KeepAlive },
		"wake":            func() { s.Wake = o.said.Wake },
		"ttl":             func() { s.ExpiresAt = o.expiry() },
		"on-expiry":       func() { s.Expiry = o.said.Expiry },
		"on-unhealthy":    func() { s.OnUnhealthy = o.said.OnUnhealthy },
		"before-exec":     func() { before.Commands = slices.DeleteFunc(o.before.Commands, func(s string) bool { return s == "" }) },
		"before-contact":  func() { before.Contact = o.before.Contact },
		"before-interval": func() { before.IntervalSeconds = int(o.interval / time.Second) },
	} {
		if changed(name) {
			change()
			said = true
		}
	}
	s.Before = &before
	return s, said, err
}

// suspendSeconds is what the flag says on the wire, where 0 is the default.
func (o *scheduleOptions) suspendSeconds() int {
	if o.suspend == 0 {
		return -1
	}
	return int(o.suspend / time.Second)
}

// expiry is when a time to live is over; nil if it has no end.
func (o *scheduleOptions) expiry() *time.Time {
	if o.ttl <= 0 {
		return nil
	}
	at := o.now().Add(o.ttl).UTC()
	return &at
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
