package client

import (
	"context"

	"bulkhead/client/program"
	"bulkhead/proto/process/processconnect"

	"connectrpc.com/connect"
)

// Exec is a program to run in a sandbox.
type Exec = program.Exec

// Size is that of a terminal, in characters.
type Size = program.Size

// Exec runs a program and returns its exit code when it has ended: 128 and
// the signal's number if a signal ended it. 127 and 126 also mean, as in a
// shell, that there is no such program and that it cannot be run.
//
// The program is the guest's: it goes on when ctx ends or the connection is
// cut (ErrCutOff). But if Stdout or Stderr refuse what it writes, it is asked
// to end, as one is whose pipe has no reader, and Exec returns their error.
func (c *Client) Exec(ctx context.Context, e Exec) (code int, err error) {
	if e.User == "" {
		e.User = "root"
	}
	rpc := processconnect.NewProcessClient(plainClient(guest{c, e.Sandbox, e.User}), c.way.Base, connect.WithReadMaxBytes(maxMessage))
	return program.Run(ctx, rpc, e, func(err error) error {
		if err == nil {
			return ErrCutOff
		}
		return rpcError(err)
	})
}
