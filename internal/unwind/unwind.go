// Package unwind is the undo stack of an operation with several steps: after
// each step that acquires something, the step's reverse is pushed; when the
// operation fails, the reverses run in reverse order.
//
// Nothing else: unwind knows no resource and never runs anything by itself.
// A Stack belongs to one goroutine.
package unwind

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Limit bounds the whole of an undo, so that a hanging release cannot hang
// the caller for ever.
const Limit = 30 * time.Second

// Stack is a list of steps to undo. The zero value is ready to use.
type Stack struct {
	steps []step
}

type step struct {
	what string
	undo func(context.Context) error
}

// Add pushes the reverse of a step that has just succeeded. what names it in
// errors: "remove staging folder".
func (s *Stack) Add(what string, undo func(context.Context) error) {
	s.steps = append(s.steps, step{what, undo})
}

// Release forgets every step: the operation has succeeded.
func (s *Stack) Release() { s.steps = nil }

// OnError runs the steps, last first, if *errp is not nil, and joins their
// errors to it. The steps run even when ctx is already cancelled, for at most
// Limit. It is meant to be deferred at the top of an operation.
func (s *Stack) OnError(ctx context.Context, errp *error) {
	if *errp == nil {
		return
	}
	if err := s.Run(ctx); err != nil {
		*errp = errors.Join(*errp, err)
	}
}

// Run runs the steps, last first, whatever happened, and empties the stack.
func (s *Stack) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Limit)
	defer cancel()
	var errs []error
	for i := len(s.steps) - 1; i >= 0; i-- {
		if err := s.steps[i].undo(ctx); err != nil {
			errs = append(errs, fmt.Errorf("undo: %s: %w", s.steps[i].what, err))
		}
	}
	s.steps = nil
	return errors.Join(errs...)
}
