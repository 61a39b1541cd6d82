// Package cli is the command line: one file per command, each a thin layer
// over package client.
//
// Standard output is for answers, standard error for talk. With --output json
// every answer is JSON, failures included (report.go). An error is one line
// that names the thing, and a hint with the way out. What comes from a guest
// goes through package show before a terminal sees it, except from exec, run
// and shell, where it is the program that the user wanted to talk to.
//
// cli is a client like any other: it must not import the daemon. What runs in
// this very process (the daemon itself, the host's check-up) comes as functions
// in Env. A command tree is run once, by one goroutine.
package cli

import (
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/keys"
	"bulkhead/internal/cli/move"
	"bulkhead/internal/cli/perimeter"
	"bulkhead/internal/cli/ports"
	"bulkhead/internal/cli/power"
	"bulkhead/internal/cli/secrets"
	"bulkhead/internal/cli/ssh"
	"bulkhead/internal/cli/tools"

	"github.com/spf13/cobra"
)

// Env is what the commands work with.
type Env = app.Env

// Check is one finding about the host.
type Check = app.Check

// Finding is how one attempt to get out of a cage went.
type Finding = app.Finding

// New returns the command tree. Its errors are for Report.
func New(env Env) *cobra.Command {
	a := &app.App{Env: env}
	root := &cobra.Command{
		Use:   "bulkhead",
		Short: "A whole computer with root for every agent, and a way back",
		Long: "Bulkhead runs each agent in a microVM of its own, with root inside, and can\n" +
			"roll the whole machine back to any snapshot. A sandbox goes by its name, its id or\n" +
			"a unique prefix of that.",
		SilenceErrors: true, SilenceUsage: true,
		Example: "  bulkhead serve &\n  bulkhead template build base\n  bulkhead create base --name otter\n" +
			"  bulkhead shell otter",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	a.Flags(root.PersistentFlags())
	for _, newCommand := range []func(*app.App) *cobra.Command{
		newCreateCommand, newLsCommand, newInspectCommand, newExecCommand, newShellCommand,
		move.NewCp, newLogsCommand, newSnapshotCommand, newTimelineCommand, newDiffCommand, newRollbackCommand,
		power.NewPause, power.NewResume, power.NewFork, power.NewSchedule, power.NewStart, power.NewRestart,
		move.NewExport, move.NewImport, newRmCommand, newRunCommand, newTemplateCommand, newEventsCommand,
		ports.NewPort, ports.NewForward, perimeter.NewCommand, perimeter.NewRadiusCommand,
		secrets.NewCommand, keys.NewCommand, ssh.NewKeys, ssh.NewConfig, tools.NewCommand, newDoctorCommand, newServeCommand,
		newVersionCommand, newDebugCommand,
	} {
		root.AddCommand(newCommand(a))
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.SetHelpTemplate(helpTemplate)
	adopt(a, root)
	return root
}
