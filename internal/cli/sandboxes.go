package cli

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"bulkhead/client"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

func newCreate(a *app) *cobra.Command {
	var name string
	var env, labels []string
	c := &cobra.Command{
		Use:   "create TEMPLATE",
		Short: "Make a sandbox from a template",
		Long: "Make a sandbox: a machine of its own that goes on from the template's snapshot,\n" +
			"with its own identity, clock and randomness. It prints the sandbox's name.",
		Example:           "  bulkhead create base --name otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTemplates,
		RunE: func(c *cobra.Command, args []string) error {
			req := client.CreateRequest{TemplateID: args[0], Name: name}
			var err error
			if req.EnvVars, err = pairs(env); err != nil {
				return err
			}
			if req.Metadata, err = pairs(labels); err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			s, err := cl.Create(c.Context(), req)
			if err != nil {
				return err
			}
			a.warnBoundary(s.Accel)
			return a.answer(s, func(w io.Writer) { fmt.Fprintln(w, s.Name) })
		},
	}
	c.Flags().StringVarP(&name, "name", "n", "", "name: a-z, 0-9 and - (made up)")
	c.Flags().StringArrayVarP(&env, "env", "e", nil, "variable for every command inside, KEY=VALUE")
	c.Flags().StringArrayVarP(&labels, "label", "l", nil, "label of yours, KEY=VALUE")
	return c
}

// pairs parses KEY=VALUE arguments.
func pairs(list []string) (map[string]string, error) {
	m := map[string]string{}
	for _, kv := range list {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, usageError{error: fmt.Errorf("%q is not KEY=VALUE", kv)}
		}
		m[k] = v
	}
	return m, nil
}

func newLs(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List sandboxes",
		Example: "  bulkhead ls --output json",
		Args:    cobra.NoArgs,
		RunE: a.ask(func(c *cobra.Command, cl *client.Client, _ []string) error {
			all, err := cl.Sandboxes(c.Context())
			if err != nil {
				return err
			}
			if a.output == "text" {
				a.talkAbout(all)
			}
			return a.answer(all, func(w io.Writer) {
				if len(all) == 0 {
					return
				}
				fmt.Fprintln(w, "NAME\tID\tSTATE\tTEMPLATE\tAGE\tHEAD")
				for _, s := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", show.Clip(s.Name, 20), show.Clip(s.ID, 8), s.State, show.Clip(s.TemplateID, 14), show.Age(time.Since(s.CreatedAt)), show.Clip(s.Head, 8))
				}
			})
		}),
	}
}

func (a *app) talkAbout(all []client.Sandbox) {
	if len(all) == 0 {
		a.say("no sandboxes; make one: bulkhead create base")
	}
	for _, s := range all {
		a.warnBoundary(s.Accel)
		if s.Hint != "" {
			a.say("%s is %s: %s; to bring it back: %s", s.Name, s.State, show.OneLine(s.Reason), s.Hint)
		}
	}
}

func newInspect(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "inspect SANDBOX",
		Short:             "Show all about one sandbox",
		Example:           "  bulkhead inspect otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: a.ask(func(c *cobra.Command, cl *client.Client, args []string) error {
			s, err := cl.Sandbox(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.answer(s, func(w io.Writer) { inspect(w, s) })
		}),
	}
}

func inspect(w io.Writer, s client.Sandbox) {
	row := func(k, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", k, show.OneLine(fmt.Sprintf(format, args...)))
	}
	row("name", "%s", s.Name)
	row("id", "%s", s.ID)
	row("state", "%s", s.State)
	if s.Reason != "" {
		row("reason", "%s", s.Reason)
	}
	if s.Hint != "" {
		row("way back", "%s", s.Hint)
	}
	row("template", "%s", s.TemplateID)
	row("machine", "%d CPU, %d MiB memory, %d MiB disk, %s", s.CPUs, s.MemoryMB, s.DiskMB, s.Accel)
	row("created", "%s (%s ago)", s.CreatedAt.Local().Format(time.DateTime), show.Age(time.Since(s.CreatedAt)))
	if s.State == client.StateRunning {
		row("running since", "%s", s.StartedAt.Local().Format(time.DateTime))
	}
	if s.Head != "" {
		row("last snapshot", "%s", s.Head)
	}
	if s.VMM != nil {
		row("VMM", "%s %s, process %d", s.VMM.Driver, s.VMM.Version, s.VMM.PID)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Metadata)) {
		row("label "+show.OneLine(k), "%s", s.Metadata[k])
	}
	if s.ConsoleTail != "" {
		fmt.Fprintf(w, "\nend of the console:\n%s\n", show.Printable(s.ConsoleTail))
	}
}

func newStart(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "start SANDBOX",
		Short: "Boot a stopped or crashed sandbox from its disk",
		Long: "Boot a stopped or crashed sandbox from its disk as it is. What was only in memory\n" +
			"is lost; a rollback brings memory back too.",
		Example:           "  bulkhead start otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: a.ask(func(c *cobra.Command, cl *client.Client, args []string) error {
			s, err := cl.Start(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.answer(s, func(w io.Writer) { fmt.Fprintln(w, s.Name) })
		}),
	}
}

func newRm(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "rm SANDBOX...",
		Short: "Remove sandboxes with all their snapshots",
		Long: "Remove sandboxes, their disks and every snapshot of them. This cannot be undone,\n" +
			"so it asks first when it is run by hand.",
		Example:           "  bulkhead rm otter",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: a.ask(func(c *cobra.Command, cl *client.Client, args []string) error {
			for _, ref := range args {
				t, err := cl.Timeline(c.Context(), ref)
				if err != nil {
					return err
				}
				if !force && a.byHand() && !a.confirm("remove %s and its %d snapshots for good?", ref, len(t.Snapshots)) {
					return fmt.Errorf("%s was not removed", ref)
				}
				if err := cl.Remove(c.Context(), t.SandboxID); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	return c
}

// confirm asks a question on the terminal; anything but a clear yes is a no.
func (a *app) confirm(format string, args ...any) bool {
	fmt.Fprintf(a.Stderr, format+" [y/N] ", args...)
	line, err := bufio.NewReader(a.Stdin).ReadString('\n')
	return err == nil && strings.EqualFold(strings.TrimSpace(line), "y")
}
