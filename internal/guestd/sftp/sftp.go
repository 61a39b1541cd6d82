// Package sftp serves the files of the guest as whoever runs it, over standard
// input and output: the host starts it like any program, and never sees a path.
//
// It is an argument of the agent's binary, because an image may have no server
// of its own. sftp must not know who is at the other end.
package sftp

import (
	"fmt"
	"io"

	"github.com/pkg/sftp"
)

// Command is the argument by which the agent's binary becomes this.
const Command = "sftp"

// Serve answers requests until in ends. Relative paths begin where the process
// does. out is closed when its reader has gone.
func Serve(in io.Reader, out io.WriteCloser) error {
	s, err := sftp.NewServer(struct {
		io.Reader
		io.WriteCloser
	}{in, out})
	if err != nil {
		return fmt.Errorf("serve files: %w", err)
	}
	if err := s.Serve(); err != nil {
		return fmt.Errorf("serve files: %w", err)
	}
	return nil
}
