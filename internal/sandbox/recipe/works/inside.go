package works

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	"bulkhead/client/program"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/recipe"
	"bulkhead/internal/sandbox/recipe/record"
	"bulkhead/proto/process/processconnect"

	"connectrpc.com/connect"
)

// Bounds of what a guest sends: of one message, the largest of which is a piece
// of output of 32 KiB; of an answer that is read.
const (
	maxMessage = 1 << 20
	maxAnswer  = 64 << 10
)

// root is who prepares.
const root = "root"

// way carries HTTP to the agent of the machine, in the name of a user of it.
type way struct {
	http.RoundTripper
	user string
}

// RoundTrip implements http.RoundTripper.
func (w way) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.user != "" {
		r = r.Clone(r.Context())
		r.SetBasicAuth(w.user, "")
	}
	return w.RoundTripper.RoundTrip(r)
}

func (j *job) way(user string) way {
	return way{live.Attend(j.machine.Guest, func() bool { return false }), user}
}

// program runs a program in the machine. A user of "" is the machine's choice.
func (j *job) program(ctx context.Context, e program.Exec) (code int, err error) {
	rpc := processconnect.NewProcessClient(&http.Client{Transport: j.way(e.User)}, "http://guest", connect.WithReadMaxBytes(maxMessage))
	exit, err := program.Run(ctx, rpc, e, func(err error) error {
		if err == nil {
			err = errors.New("its end was not told")
		}
		return told{err}
	})
	return exit.Code, err
}

// script runs a shell's script as root, outside of what holds in the build, and
// returns what it writes.
func (j *job) script(ctx context.Context, dir, script string, args ...string) (out string, err error) {
	return j.shell(ctx, program.Exec{User: root, Dir: dir}, script, args...)
}

func (j *job) shell(ctx context.Context, e program.Exec, script string, args ...string) (out string, err error) {
	var stdout, stderr capped
	e.Cmd, e.Args, e.Stdout, e.Stderr = "/bin/sh", append([]string{"-c", script, "sh"}, args...), &stdout, &stderr
	code, err := j.program(ctx, e)
	if err == nil && code != 0 {
		err = told{fmt.Errorf("exit status %d: %s", code, record.Plain(strings.TrimSpace(stderr.String())))}
	}
	return stdout.String(), err
}

// capped keeps the beginning of what is written to it.
type capped struct{ bytes.Buffer }

// Write implements io.Writer.
func (c *capped) Write(p []byte) (int, error) {
	c.Buffer.Write(p[:min(len(p), maxAnswer-c.Len())])
	return len(p), nil
}

// login runs a command as the SDKs run commands, by a login shell.
const login = `if [ -x /bin/bash ]; then exec /bin/bash -l -c "$1"; else exec /bin/sh -l -c "$1"; fi`

// command is what a user's command is run by, with what holds.
func (j *job) command(command, user string) program.Exec {
	return program.Exec{Cmd: "/bin/sh", Args: []string{"-c", login, "sh", command}, User: user, Dir: j.holds.Workdir, Env: j.holds.Env}
}

// step carries out one step.
func (j *job) step(ctx context.Context, number string, s recipe.Step) error {
	switch s.Kind {
	case recipe.Copy:
		return j.copy(ctx, s)
	case recipe.Run:
		return j.run(ctx, number, s)
	case recipe.Env:
		return j.env(ctx, s)
	case recipe.Workdir:
		return j.workdir(ctx, s.Args[0])
	case recipe.User:
		return j.user(ctx, s.Args[0])
	}
	return fmt.Errorf("step of kind %q", s.Kind) // Check has let none through
}

func (j *job) run(ctx context.Context, number string, s recipe.Step) error {
	stdout := &record.Output{Log: j.out, Level: record.Info, Step: number}
	stderr := &record.Output{Log: j.out, Level: record.Info, Step: number}
	e := j.command(s.Args[0], s.As(j.holds.User))
	e.Stdout, e.Stderr = stdout, stderr
	code, err := j.program(ctx, e)
	stdout.Flush()
	stderr.Flush()
	if err == nil && code != 0 {
		err = told{fmt.Errorf("exit status %d", code)}
	}
	if err != nil {
		return fmt.Errorf("run command '%s': %w", strings.TrimPrefix(s.Title(), "RUN "), err)
	}
	return nil
}

func (j *job) env(ctx context.Context, s recipe.Step) error {
	for i := 0; i < len(s.Args); i += 2 {
		value := s.Args[i+1]
		if word, refers := recipe.Word(value); refers {
			var err error
			e := program.Exec{User: j.holds.User, Env: j.holds.Env}
			if value, err = j.shell(ctx, e, "printf %s "+word); err != nil {
				return fmt.Errorf("value of %s: %w", s.Args[i], err)
			}
			if strings.ContainsRune(value, 0) {
				return told{fmt.Errorf("value of %s holds a zero byte", s.Args[i])}
			}
		}
		var err error
		if j.holds, err = j.holds.With(s.Args[i], value); err != nil {
			return err
		}
		if s.Args[i] != "PATH" {
			continue
		}
		if _, err := j.script(ctx, "/", keepPath, value); err != nil {
			return fmt.Errorf("keep PATH: %w", err)
		}
	}
	return nil
}

// keepPath has login shells keep a PATH, which Debian's /etc/profile sets anew.
const keepPath = `mkdir -p /etc/profile.d
quoted=$(printf %s. "$1" | sed "s/'/'\\\\''/g")
printf "export PATH='%s'\n" "${quoted%.}" > /etc/profile.d/bulkhead-path.sh`

// makeUser makes a user unless there is one. Images have one program for it or
// the other.
const makeUser = `id -u "$1" >/dev/null 2>&1 || useradd --create-home "$1" 2>/dev/null || adduser -D "$1"; id -u "$1" >/dev/null`

func (j *job) user(ctx context.Context, name string) error {
	if _, err := j.script(ctx, "/", makeUser, name); err != nil {
		return fmt.Errorf("make user %s: %w", name, err)
	}
	j.holds.User = name
	return nil
}

// makeFolder makes a folder for a user unless there is one.
const makeFolder = `set -e
[ -d "$1" ] || { mkdir -p -- "$1"; chown "$2" -- "$1"; }
cd -- "$1"`

func (j *job) workdir(ctx context.Context, dir string) error {
	dir, err := j.absolute(ctx, dir)
	if err != nil {
		return err
	}
	who, err := j.who(ctx)
	if err != nil {
		return err
	}
	if _, err := j.script(ctx, "/", makeFolder, dir, who+":"); err != nil {
		return fmt.Errorf("make folder %s: %w", dir, err)
	}
	j.holds.Workdir = dir
	return nil
}

// who is the user that acts now, by name.
func (j *job) who(ctx context.Context) (string, error) {
	if j.holds.User != "" {
		return j.holds.User, nil
	}
	if j.standard == "" {
		out, err := j.shell(ctx, program.Exec{Dir: "/"}, "id -un")
		if err != nil {
			return "", fmt.Errorf("ask who acts: %w", err)
		}
		j.standard = strings.TrimSpace(out)
	}
	return j.standard, nil
}

// absolute is a path of a step as it is meant: below where commands start now.
func (j *job) absolute(ctx context.Context, p string) (string, error) {
	dir := j.holds.Workdir
	if !path.IsAbs(p) && dir == "" {
		out, err := j.shell(ctx, program.Exec{User: j.holds.User}, "pwd")
		if err != nil {
			return "", fmt.Errorf("ask for the home: %w", err)
		}
		dir = strings.TrimSuffix(out, "\n")
	}
	if path.IsAbs(p) {
		dir = "/"
	}
	clean := path.Join(dir, p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/" // a folder, COPY is told
	}
	return clean, nil
}
