package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
)

// Port connects to a TCP port in a running sandbox, also to one that listens
// on the guest's loopback only: in is sent, what comes is written to out. It
// returns when the guest has ended the connection, or with an error when that
// was cut. in may be read a little longer. The error is of kind "unavailable"
// if nothing listens there.
func (c *Client) Port(ctx context.Context, ref string, port uint16, in io.Reader, out io.Writer) error {
	conn, err := c.DialPort(ctx, ref, port)
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() { // not waited for: nothing interrupts a read
		_, err := io.Copy(conn, in)
		conn.up.CloseWithError(err)
	}()
	if _, err := io.Copy(out, conn); err != nil {
		return fmt.Errorf("port %d of %s: %w", port, ref, c.lost(ctx, err))
	}
	return nil
}

// PortConn is a connection to a port in a sandbox, read and written at once.
type PortConn struct {
	io.ReadCloser
	io.Writer
	up  *io.PipeWriter
	cut context.CancelFunc
}

// DialPort is Port for those who carry the bytes themselves: it returns when the
// guest has accepted. ctx is for the connection as well. The caller closes it.
func (c *Client) DialPort(ctx context.Context, ref string, port uint16) (*PortConn, error) {
	ctx, cut := context.WithCancel(ctx)
	body, up := io.Pipe()
	path := c.way.Base + sandboxPath(ref, "ports", strconv.Itoa(int(port)))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, path, body)
	if err != nil {
		cut()
		return nil, fmt.Errorf("make request: %w", err)
	}
	resp, err := c.send(req)
	if err != nil {
		cut()
		return nil, err
	}
	return &PortConn{resp.Body, up, up, cut}, nil
}

// CloseWrite says that nothing more is sent.
func (p *PortConn) CloseWrite() error { return p.up.Close() }

// Close ends the connection. Repeating it is no error.
func (p *PortConn) Close() error {
	p.up.CloseWithError(net.ErrClosed)
	p.cut()
	return p.ReadCloser.Close()
}
