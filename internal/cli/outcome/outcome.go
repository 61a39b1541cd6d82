// Package outcome says how a command failed: it has the one table from kinds
// of errors to exit codes, and the words for both people and programs.
//
// It knows the errors of packages client and fault, no command. It has no
// state.
package outcome

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"bulkhead/client"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/fault"
)

const (
	// Own is the code of every failure of a command that otherwise ends with
	// the code of a program inside, as docker has it: few programs use it.
	Own = 125
	// Interrupted is 128 and the number of SIGINT, as shells have it.
	Interrupted = 130
)

// ending is the exit code of one kind of failure, and how help calls it.
type ending struct {
	kind fault.Kind
	code int
	word string
}

// endings has every kind (tested). Codes never change: scripts know them.
var endings = []ending{
	{fault.Internal, 1, "failed"},
	{fault.Invalid, 2, "bad usage or input"},
	{fault.NotFound, 3, "not found"},
	{fault.Exists, 4, "exists already"},
	{fault.WrongState, 5, "wrong state"},
	{fault.Denied, 6, "denied"},
	{fault.Exhausted, 7, "no room"},
	{fault.Unavailable, 8, "not available"},
	{fault.Timeout, 9, "timed out"},
	{fault.Unsupported, 10, "not supported"},
	{fault.Corrupt, 11, "corrupt"},
	{fault.Limited, 12, "over a limit"},
}

// Failure is what is told of an error. The names in JSON are the API's, but
// Code is the exit code.
type Failure struct {
	Code int `json:"code"`
	// Message is one line of visible text, and so is Hint, the way out.
	Message   string `json:"message"`
	Kind      string `json:"error_code"`
	Hint      string `json:"hint,omitempty"`
	RequestID string `json:"requestID,omitempty"`
}

// Of returns what to tell of err, which is not nil. An error without a kind,
// or of a kind that this release does not know, is internal.
func Of(err error) Failure {
	f := Failure{Message: show.OneLine(err.Error()), Hint: fault.HintOf(err)}
	kind := fault.KindOf(err)
	var remote *client.Error
	switch {
	case errors.As(err, &remote):
		kind, f.Hint, f.RequestID = fault.Kind(remote.Kind), remote.Hint, remote.RequestID
	case errors.Is(err, context.Canceled):
		return Failure{Code: Interrupted, Message: "interrupted", Kind: string(fault.Internal)}
	}
	i := slices.IndexFunc(endings, func(e ending) bool { return e.kind == kind })
	if i < 0 {
		i, kind = 0, fault.Internal
	}
	if kind == fault.Internal && f.Hint == "" && f.RequestID != "" {
		f.Hint = "look for request " + f.RequestID + " in the daemon's log"
	}
	f.Code, f.Kind, f.Hint = endings[i].code, string(kind), show.OneLine(f.Hint)
	return f
}

// Help lists the exit codes of a command, or says that they are those of a
// program inside.
func Help(ofProgram bool) string {
	if ofProgram {
		return show.Fold(fmt.Sprintf("Exit status: the command's own, 128 and the signal's number if a signal ended it, "+
			"%d if it could not be run or its end was not seen.", Own), "")
	}
	text := "Exit status: 0 done"
	for _, e := range endings {
		text += fmt.Sprintf(", %d %s", e.code, e.word)
	}
	return show.Fold(fmt.Sprintf("%s, %d interrupted.", text, Interrupted), "")
}
