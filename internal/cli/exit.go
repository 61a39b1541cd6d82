package cli

import (
	"errors"

	"bulkhead/client"
	"bulkhead/internal/fault"
)

// Exit codes. Those of a command that runs in a sandbox are passed through, so
// ours begin where few programs use them.
const (
	exitFailure = 1
	exitUsage   = 2
)

// exitCodes is the code of each kind of error; the table is complete (tested).
func exitCodes() map[fault.Kind]int {
	return map[fault.Kind]int{
		fault.Internal:    exitFailure,
		fault.Invalid:     exitUsage,
		fault.NotFound:    3,
		fault.Exists:      4,
		fault.WrongState:  5,
		fault.Denied:      6,
		fault.Exhausted:   7,
		fault.Unavailable: 8,
		fault.Timeout:     9,
		fault.Unsupported: 10,
		fault.Corrupt:     11,
	}
}

func exitStatusHelp() string {
	return `Exit status: 0 done, 1 failed, 2 bad usage or input, 3 not found, 4 exists
already, 5 wrong state, 6 denied, 7 no room, 8 not available, 9 timed out,
10 not supported, 11 corrupt. exec, shell and run end with the command's own
status, 128 and the signal's number if a signal ended it, and with 125 for every
failure of their own.`
}

// classify returns exit code, kind and hint of an error.
func classify(err error) (code int, kind, hint string) {
	var u usageError
	var ce *client.Error
	k, hint := fault.KindOf(err), fault.HintOf(err)
	switch {
	case errors.As(err, &u):
		k, hint = fault.Invalid, u.hint
	case errors.As(err, &ce):
		k, hint = fault.Kind(ce.Kind), ce.Hint
	}
	code, ok := exitCodes()[k]
	if !ok {
		code = exitFailure
	}
	var own execFailed
	if errors.As(err, &own) {
		code = exitExecFailed
	}
	return code, string(k), hint
}
