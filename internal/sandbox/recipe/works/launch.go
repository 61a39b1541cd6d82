package works

import (
	"context"
	"fmt"
	"time"

	"bulkhead/internal/sandbox/recipe/record"
)

const (
	// readyWithin is how long the start command may take to be ready, readyEvery
	// how often that is looked at.
	readyWithin, readyEvery = 5 * time.Minute, time.Second
	// settling is what a start command gets of which nothing tells that it is
	// ready, as E2B's builders give it.
	settling = "sleep 20"
)

// launch starts the start command, which goes on in the machine, and waits until
// the ready command says that it is up.
func (j *job) launch(ctx context.Context) error {
	ready := j.recipe.Ready
	switch {
	case j.recipe.Start == "" && ready == "":
		return nil
	case ready == "":
		ready = settling
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("the ready command did not succeed within %s", readyWithin))
	defer cancel()
	ended := make(chan error, 1)
	listen, hangUp := context.WithCancel(ctx)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if j.recipe.Start != "" {
			ended <- j.start(listen)
		}
	}()
	defer func() { // it goes on unheard
		hangUp()
		<-gone
	}()
	err := j.await(ctx, ready, ended)
	if err != nil && ctx.Err() != nil && j.life.Err() == nil {
		return told{context.Cause(ctx)}
	}
	return err
}

// start runs the start command; nil if it ends well.
func (j *job) start(ctx context.Context) error {
	j.out.Say(record.Info, stepFinal, "starting: "+j.recipe.Start)
	out := &record.Output{Log: j.out, Level: record.Info, Step: stepFinal}
	defer out.Flush()
	e := j.command(j.recipe.Start, j.holds.User)
	e.Stdout, e.Stderr = out, out
	code, err := j.program(ctx, e)
	if err == nil && code != 0 {
		err = told{fmt.Errorf("exit status %d", code)}
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("start command: %w", err)
	}
	return nil
}

// await runs the ready command until it succeeds.
func (j *job) await(ctx context.Context, ready string, ended <-chan error) error {
	j.out.Say(record.Info, stepFinal, "waiting until ready: "+ready)
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		out := &record.Output{Log: j.out, Level: record.Debug, Step: stepFinal}
		e := j.command(ready, j.holds.User)
		e.Stdout, e.Stderr = out, out
		code, err := j.program(ctx, e)
		out.Flush()
		if err != nil {
			return fmt.Errorf("ready command: %w", err)
		}
		select {
		case err := <-ended:
			if err != nil {
				return err
			}
			ended = nil // it has done what it had to
		default:
		}
		if code == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
