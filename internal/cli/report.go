package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/outcome"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/fault"

	"github.com/spf13/cobra"
)

// helpTemplate is cobra's own, and the exit status.
const helpTemplate = `{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}{{.UsageString}}
{{index .Annotations "exit"}}
`

// passes marks commands that end with the exit code of a program inside.
func passes() map[string]string { return map[string]string{"exit": outcome.Help(true)} }

// adopt gives c and all below it what they have in common: exit status in the
// help, and errors that Report can tell.
func adopt(a *app.App, c *cobra.Command) {
	own := c.Annotations["exit"] != ""
	if !own {
		c.Annotations = map[string]string{"exit": outcome.Help(false)}
	}
	tell := func(err error) error {
		if err == nil {
			return nil
		}
		return failure{err, a.Output == "json", own}
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return tell(misused(c, err)) })
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			err := check(c, args)
			if err == nil && a.Output != "text" && a.Output != "json" {
				err = fmt.Errorf("--output %q is neither text nor json", a.Output)
			}
			if err != nil {
				err = misused(c, err)
			}
			return tell(err)
		}
	}
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error { return tell(run(c, args)) }
	}
	for _, sub := range c.Commands() {
		adopt(a, sub)
	}
}

// misused is the error of a command line that makes no sense.
func misused(c *cobra.Command, err error) error {
	return fault.New(fault.Invalid, "%w", err).Hint("%s --help", c.CommandPath())
}

// failure is an error and how its command wants it told.
type failure struct {
	error
	json bool
	// own means that exit codes other than outcome.Own are a program's inside.
	own bool
}

func (f failure) Unwrap() error { return f.error }

// exitError ends the program with a code and no message: the program inside a
// sandbox has said what there is to say.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// Report tells the user of an error that the command tree returned for args,
// in the form that they asked for, and returns the exit code; 0 for nil.
func Report(env Env, args []string, err error) int {
	if err == nil {
		return 0
	}
	var exit exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	told := outcome.Of(err)
	var f failure
	if errors.As(err, &f) && f.own {
		told.Code = outcome.Own
	}
	// Flags that could not be read have not told the form.
	if f.json || told.Kind == string(fault.Invalid) && wantsJSON(args) {
		// Nobody is left to hear that this cannot be written either.
		_ = show.JSON(env.Stderr, told, false)
		return told.Code
	}
	fmt.Fprintf(env.Stderr, "bulkhead: %s\n", told.Message)
	if told.Hint != "" {
		fmt.Fprintf(env.Stderr, "hint: %s\n", told.Hint)
	}
	return told.Code
}

// wantsJSON looks for --output json among arguments that were not read.
func wantsJSON(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	all := " " + strings.Join(args, " ") + " "
	return slices.ContainsFunc([]string{"--output=json", "--output json", "-o=json", "-o json", "-ojson"},
		func(flag string) bool { return strings.Contains(all, " "+flag+" ") })
}
