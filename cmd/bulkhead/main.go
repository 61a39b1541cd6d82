// Command bulkhead is the host daemon and the command line that speaks to it.
package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"bulkhead/client"
	"bulkhead/internal/attack"
	"bulkhead/internal/cli"
	"bulkhead/internal/config"
	"bulkhead/internal/daemon"
	"bulkhead/internal/jail"
)

// version is set by the linker.
var version = "0.0.0-dev"

func main() {
	jail.Enter()
	attack.Enter()
	env := cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Version: version,
		Serve: func(ctx context.Context, c config.Config) error {
			d := daemon.Daemon{Config: c, Version: version, Clock: time.Now, Log: logger(c)}
			return d.Run(ctx)
		},
		Doctor: func(_ context.Context, c config.Config) (checks []cli.Check) {
			for _, f := range daemon.Doctor(c) {
				checks = append(checks, cli.Check{Name: f.Name, Status: string(f.Status), Detail: f.Detail, Mend: f.Mend})
			}
			return checks
		},
		Attack: func(ctx context.Context, c config.Config, victim *client.Sandbox, report func(cli.Finding)) error {
			d := daemon.Daemon{Config: c, Version: version, Clock: time.Now, Log: logger(c)}
			return d.Attack(ctx, victim, func(f attack.Finding) { report(cli.Finding(f)) })
		},
		Release: func(ctx context.Context, c config.Config, force bool) error {
			d := daemon.Daemon{Config: c, Version: version, Clock: time.Now, Log: logger(c)}
			return d.Release(ctx, force)
		},
	}
	root := cli.New(env)
	os.Exit(cli.Report(env, os.Args[1:], root.ExecuteContext(context.Background())))
}

func logger(c config.Config) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}
