package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// Port connects to a TCP port in a running sandbox, also to one that listens
// on the guest's loopback only: in is sent, what comes is written to out. It
// returns when the guest has ended the connection, or with an error when that
// was cut. in may be read a little longer. The error is of kind "unavailable"
// if nothing listens there.
func (c *Client) Port(ctx context.Context, ref string, port uint16, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	path := c.way.Base + sandboxPath(ref, "ports", strconv.Itoa(int(port)))
	// The reader alone: in is the caller's to close.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, path, struct{ io.Reader }{in})
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(out, resp.Body); err != nil {
		return fmt.Errorf("port %d of %s: %w", port, ref, c.lost(ctx, err))
	}
	return nil
}
