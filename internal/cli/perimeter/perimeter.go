// Package perimeter is the group of commands about what sandboxes may talk to:
// bulkhead egress.
//
// What a guest asked for (names, mostly) goes through package show before a
// terminal sees it.
package perimeter

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

// NewCommand returns the group.
func NewCommand(a *app.App) *cobra.Command {
	c := &cobra.Command{
		Use:   "egress",
		Short: "Say what a sandbox may talk to",
		Long: "Say what a sandbox may talk to. Nothing leaves a sandbox but what its policy allows,\n" +
			"by name; a change counts at once, also for connections that are open.",
		Example: "  bulkhead egress show otter\n  bulkhead egress allow otter api.example.com:443",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newShow(a), newSet(a), newRule(a, true), newRule(a, false), newLog(a), newTest(a),
		newLearn(a), newReplay(a), newPending(a), newAnswer(a, true), newAnswer(a, false))
	return c
}

func newShow(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use: "show SANDBOX", Short: "Show the policy, what was used of it, and what was dropped",
		Long: "Show the policy in force, what each destination has taken since the daemon was\n" +
			"started, what is approved for a time, and the packets that were for nobody.",
		Example: "  bulkhead egress show otter",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			e, err := a.API.Egress(ctx, args[0])
			if err != nil {
				return err
			}
			return a.Answer(e, func(w io.Writer) { overview(w, e) })
		}),
	}
}

func overview(w io.Writer, e client.Egress) {
	fmt.Fprintf(w, "%s\n", e.Policy)
	if len(e.Used) > 0 {
		fmt.Fprintf(w, "DESTINATION\tCONNECTIONS\tOPEN\tUP\tDOWN\n")
	}
	for _, u := range e.Used {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\n", show.OneLine(u.Destination), u.Connections, u.Open,
			show.Bytes(u.UpBytes), show.Bytes(u.DownBytes))
	}
	for _, line := range budgets(e.Budgets) {
		fmt.Fprintf(w, "limit: %s\n", line)
	}
	for _, a := range e.Approved {
		fmt.Fprintf(w, "approved: %s until %s\n", show.OneLine(a.Destination), a.Until.Local().Format(time.DateTime))
	}
	var reasons []string
	for reason, n := range e.Dropped {
		if n > 0 {
			reasons = append(reasons, fmt.Sprintf("%s %d", reason, n))
		}
	}
	slices.Sort(reasons)
	for _, r := range reasons {
		fmt.Fprintf(w, "dropped packets: %s\n", r)
	}
}

// budgets says in a line for each limit what is left of it.
func budgets(all []client.EgressBudget) (lines []string) {
	for _, b := range all {
		var left []string
		add := func(limited bool, format string, args ...any) {
			if limited {
				left = append(left, fmt.Sprintf(format, args...))
			}
		}
		until := b.Until.Local().Format(time.DateTime)
		add(b.UpLimit > 0, "%s of %s up left until %s", show.Bytes(b.UpLimit-b.UpBytes), show.Bytes(b.UpLimit), until)
		add(b.DownLimit > 0, "%s of %s down left until %s", show.Bytes(b.DownLimit-b.DownBytes), show.Bytes(b.DownLimit), until)
		add(b.OpenLimit > 0, "%d of %d connections open", b.Open, b.OpenLimit)
		if len(left) == 0 {
			left = []string{b.Limits}
		}
		lines = append(lines, cmp.Or(b.For, "all together")+": "+strings.Join(left, ", "))
	}
	return lines
}

// maxPolicy bounds a policy's file, as the daemon does.
const maxPolicy = 64 << 10

func newSet(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use: "set SANDBOX PRESET|FILE", Short: "Replace the policy",
		Long: "Replace the policy by a preset (none, packages, public) or by a file; - is standard\n" +
			"input. A policy with a mistake changes nothing.",
		Example: "  bulkhead egress set otter none\n  bulkhead egress set otter policy.yaml",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			req, err := policyFrom(a, args[1])
			if err != nil {
				return err
			}
			e, err := a.API.SetEgress(ctx, args[0], req)
			if err != nil {
				return err
			}
			return a.Answer(e, func(w io.Writer) { fmt.Fprintln(w, e.Policy) })
		}),
	}
}

func policyFrom(a *app.App, source string) (client.EgressPolicyRequest, error) {
	if slices.Contains([]string{"none", "packages", "public"}, source) {
		return client.EgressPolicyRequest{Preset: source}, nil
	}
	in := io.Reader(a.Stdin)
	if source != "-" {
		f, err := os.Open(source)
		if err != nil {
			return client.EgressPolicyRequest{}, fmt.Errorf("read policy: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxPolicy+1))
	if err != nil {
		return client.EgressPolicyRequest{}, fmt.Errorf("read policy: %w", err)
	}
	if len(b) > maxPolicy {
		return client.EgressPolicyRequest{}, fmt.Errorf("%s is larger than %d bytes", source, maxPolicy)
	}
	return client.EgressPolicyRequest{Policy: string(b)}, nil
}

func newRule(a *app.App, allow bool) *cobra.Command {
	verb, ports := "deny", "about every port"
	if allow {
		verb, ports = "allow", "about ports 80 and 443"
	}
	var s client.EgressSecret
	c := &cobra.Command{
		Use:   verb + " SANDBOX DESTINATION",
		Short: "Put a rule before all others: " + verb + " a name",
		Long: "Put a rule before all others. A destination is a name, *.suffix or CIDR, with :port\n" +
			"or without; without one, it is " + ports + ".",
		Example: "  bulkhead egress " + verb + " otter '*.example.com:443'",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			req := client.EgressRuleRequest{Destination: args[1], Allow: allow}
			if s != (client.EgressSecret{}) {
				req.Secret = &s
			}
			e, err := a.API.AddEgressRule(ctx, args[0], req)
			if err != nil {
				return err
			}
			return a.Answer(e, app.Silence)
		}),
	}
	if allow {
		f := c.Flags()
		f.StringVar(&s.Name, "secret", "", "a secret that HTTPS requests to this name use")
		f.StringVar(&s.Header, "header", "", "put it into this header, like 'Authorization: Bearer {}'")
		f.StringVar(&s.Env, "env", "", "or give the guest a placeholder of it in this variable")
		c.Long += "\n\nWith --secret, requests to the name carry a secret that the sandbox never sees."
		c.Example += "\n  bulkhead egress allow otter api.example.com --secret example \\\n    --header 'Authorization: Bearer {}'"
	}
	return c
}

func newLog(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use: "log SANDBOX", Short: "List what was refused lately, the latest first",
		Long: "List what was refused lately, the latest first. Everything, allowed or refused, is in\n" +
			"bulkhead events.",
		Example: "  bulkhead egress log otter",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			e, err := a.API.Egress(ctx, args[0])
			if err != nil {
				return err
			}
			return a.Answer(e.Denied, func(w io.Writer) {
				for _, d := range e.Denied {
					fmt.Fprintf(w, "%s\t%s\t%d x\t%s\n", d.Time.Local().Format("01-02 15:04:05"),
						show.OneLine(d.Destination), d.Count, show.OneLine(d.Rule+" "+d.Reason))
				}
			})
		}),
	}
}

func newTest(a *app.App) *cobra.Command {
	var by string
	c := &cobra.Command{
		Use: "test SANDBOX NAME:PORT", Short: "Would this be allowed, and by which rule?",
		Long: "Say whether a connection would be allowed, refused or asked about, and by which rule.\n" +
			"Nothing is sent. The exit code is 1 unless it would be allowed.",
		Example: "  bulkhead egress test otter pypi.org:443\n  bulkhead egress test otter pypi.org:443 --policy draft.yaml",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			req := client.EgressTestRequest{Destination: args[1]}
			if by != "" {
				var err error
				if req.EgressPolicyRequest, err = policyFrom(a, by); err != nil {
					return err
				}
			}
			v, err := a.API.TestEgress(ctx, args[0], req)
			if err != nil {
				return err
			}
			return tested(a, v)
		}),
	}
	c.Flags().StringVar(&by, "policy", "", "decide by this preset or file, not by what is in force")
	return c
}

// tested tells a verdict. What would not be allowed at once is an error.
func tested(a *app.App, v client.EgressVerdict) error {
	word, problem := "allowed", ""
	switch {
	case v.Asks:
		word, problem = "to be asked about", "would wait for your answer"
	case !v.Allowed:
		word, problem = "refused", "would be refused"
	}
	if err := a.Answer(v, func(w io.Writer) { fmt.Fprintf(w, "%s by %s\n", word, v.Rule) }); err != nil {
		return err
	}
	if problem != "" {
		return fmt.Errorf("%s %s", show.OneLine(v.Destination), problem)
	}
	return nil
}
