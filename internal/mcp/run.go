package mcp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"bulkhead/client"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Bounds of a command, in time.
const (
	defaultTimeout, maxTimeout = 2 * time.Minute, time.Hour
	// farewell is how long a command has to end that was asked to.
	farewell = 3 * time.Second
	// progressEvery is how often a client is told what was written.
	progressEvery = 200 * time.Millisecond
	// maxProgress bounds what it is told at once, in bytes.
	maxProgress = 4 << 10
)

// command is what run_command is told.
type command struct {
	which
	Command string            `json:"command" jsonschema:"what a shell is to run, as root unless user says otherwise"`
	Dir     string            `json:"dir,omitempty" jsonschema:"where it starts (the user's home)"`
	User    string            `json:"user,omitempty" jsonschema:"user inside the machine (root)"`
	Env     map[string]string `json:"env,omitempty" jsonschema:"further environment variables"`
	Stdin   string            `json:"stdin,omitempty" jsonschema:"what it reads on standard input"`
	Timeout int               `json:"timeout_seconds,omitempty" jsonschema:"after how long it is ended, 1 to 3600 (120)"`
}

// ran is what became of a command.
type ran struct {
	ExitCode  int    `json:"exit_code" jsonschema:"128 and the signal's number if a signal ended it"`
	Stdout    string `json:"stdout"`
	Stderr    string `json:"stderr"`
	StdoutCut int64  `json:"stdout_left_out" jsonschema:"bytes left out in the middle of stdout"`
	StderrCut int64  `json:"stderr_left_out" jsonschema:"bytes left out in the middle of stderr"`
	TimedOut  bool   `json:"timed_out" jsonschema:"whether it was ended because its time was over"`
}

func (t tools) addRun(s *mcp.Server) {
	open := true
	hints := changes(true)
	hints.OpenWorldHint = &open
	add(t, s, &mcp.Tool{
		Name: "run_command", Annotations: hints,
		Description: "Run a shell command in a sandbox and wait for its end. Progress is told while it runs. What goes on in " +
			"the background afterwards must not hold its output: `nohup server > log 2>&1 &`." + untrusted,
	}, t.run)
}

func (t tools) run(ctx context.Context, req *mcp.CallToolRequest, in command) (ran, error) {
	ref, err := t.pick(ctx, in.Sandbox)
	if err != nil {
		return ran{}, err
	}
	limit := defaultTimeout
	if in.Timeout != 0 {
		limit = time.Duration(in.Timeout) * time.Second
	}
	if limit <= 0 || limit > maxTimeout {
		return ran{}, fmt.Errorf("timeout_seconds must be 1 to %d", int(maxTimeout/time.Second))
	}
	var stdout, stderr excerpt
	p := &progress{ctx: ctx, req: req}
	e := client.Exec{
		Sandbox: ref, Cmd: "/bin/sh", Args: []string{"-c", in.Command}, User: in.User, Dir: in.Dir, Env: in.Env,
		Stdout: both{&stdout, p}, Stderr: both{&stderr, p},
	}
	if in.Stdin != "" {
		e.Stdin = strings.NewReader(in.Stdin)
	}
	exit, timedOut, err := t.within(ctx, limit, e)
	if err != nil {
		return ran{}, err
	}
	out := ran{ExitCode: exit.Code, TimedOut: timedOut}
	out.Stdout, out.StdoutCut = stdout.text()
	out.Stderr, out.StderrCut = stderr.text()
	return out, nil
}

// within runs a command that is ended when its time is over or ctx ends.
func (t tools) within(ctx context.Context, limit time.Duration, e client.Exec) (exit client.Exit, timedOut bool, err error) {
	life, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	signals := make(chan int, 2)
	e.Signals = signals
	ended := make(chan struct{})
	var over sync.WaitGroup
	over.Go(func() {
		select {
		case <-ended:
			return
		case <-time.After(limit):
			timedOut = true
		case <-ctx.Done():
		}
		for _, sig := range []int{15, 9} {
			signals <- sig
			select {
			case <-ended:
				return
			case <-time.After(farewell):
			}
		}
		kill()
	})
	exit, err = t.API.Run(life, e)
	close(ended)
	over.Wait()
	if ctx.Err() != nil {
		return exit, false, context.Cause(ctx)
	}
	if timedOut && errors.Is(err, context.Canceled) {
		return client.Exit{Code: 128 + 9, Signal: 9}, true, nil // it is deaf to that too
	}
	return exit, timedOut, err
}

// both is one output of a command: what is kept, and what is told meanwhile.
type both struct {
	kept *excerpt
	told *progress
}

// Write implements io.Writer.
func (b both) Write(p []byte) (int, error) {
	b.told.tell(p)
	return b.kept.Write(p)
}

// progress tells a client what a command writes, if it wants to know. One
// goroutine writes all outputs.
type progress struct {
	ctx     context.Context
	req     *mcp.CallToolRequest
	pending []byte
	total   int64
	at      time.Time
}

func (p *progress) tell(b []byte) {
	token := p.req.Params.GetProgressToken()
	if token == nil {
		return
	}
	p.total += int64(len(b))
	p.pending = append(p.pending, b[max(0, len(b)-maxProgress):]...)
	p.pending = p.pending[max(0, len(p.pending)-maxProgress):]
	if time.Since(p.at) < progressEvery {
		return
	}
	// Who does not listen any more has the answer, or nothing.
	_ = p.req.Session.NotifyProgress(p.ctx, &mcp.ProgressNotificationParams{
		ProgressToken: token, Progress: float64(p.total), Message: valid(p.pending),
	})
	p.pending, p.at = nil, time.Now()
}
