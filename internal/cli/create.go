package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/fault"

	"github.com/spf13/cobra"
)

type createOptions struct {
	name        string
	env, labels []string
}

func newCreateCommand(a *app.App) *cobra.Command {
	var o createOptions
	c := &cobra.Command{
		Use:   "create TEMPLATE",
		Short: "Make a sandbox from a template",
		Long: "Make a sandbox: a machine of its own that goes on from the template's snapshot,\n" +
			"with its own identity, clock and randomness. It prints the sandbox's name.",
		Example:           "  bulkhead create base --name otter",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.CompleteTemplates,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return runCreate(ctx, a, o, args) }),
	}
	f := c.Flags()
	f.StringVarP(&o.name, "name", "n", "", "name: a-z, 0-9 and - (made up)")
	f.StringArrayVarP(&o.env, "env", "e", nil, "variable for every command inside, KEY=VALUE")
	f.StringArrayVarP(&o.labels, "label", "l", nil, "label of yours, KEY=VALUE")
	return c
}

func runCreate(ctx context.Context, a *app.App, o createOptions, args []string) (err error) {
	req := client.CreateRequest{TemplateID: args[0], Name: o.name}
	if req.EnvVars, err = pairs(o.env); err != nil {
		return err
	}
	if req.Metadata, err = pairs(o.labels); err != nil {
		return err
	}
	done := a.Wait("making the machine")
	s, err := a.API.Create(ctx, req)
	done()
	if err != nil {
		return err
	}
	a.WarnBoundary(s.Accel)
	return a.Answer(s, func(w io.Writer) { fmt.Fprintln(w, s.Name) })
}

// pairs parses KEY=VALUE arguments.
func pairs(list []string) (map[string]string, error) {
	m := map[string]string{}
	for _, kv := range list {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, fault.New(fault.Invalid, "%q is not KEY=VALUE", kv)
		}
		m[k] = v
	}
	return m, nil
}
