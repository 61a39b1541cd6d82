package front

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"bulkhead/internal/duplex"
	"bulkhead/internal/fault"
	"bulkhead/internal/guestd/ports"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/server/ingress"
)

// Rules implements server.Ingress.
func (b borders) Rules(_ context.Context, id string) (ingress.Rules, error) {
	s, err := b.Manager.Get(id)
	if err != nil || string(s.ID) != id { // a name or a part of an id could be guessed
		return ingress.Rules{}, fault.New(fault.NotFound, "sandbox %q not found", id)
	}
	return ingress.Rules{
		Private: s.Ingress.Private, MaskHost: s.Ingress.MaskHost, Paused: s.State == lifecycle.Paused,
	}, nil
}

// IDs implements server.Ingress.
func (b borders) IDs(context.Context) []string {
	var ids []string
	for _, s := range b.Manager.List() {
		ids = append(ids, string(s.ID))
	}
	return ids
}

// byNetwork is how long the guest's network may take to answer before its
// agent is asked: it does at once unless a firewall inside is silent.
const byNetwork = time.Second

// DialPort implements server.Ports: by the sandbox's network, or by its agent
// for what listens on the guest's loopback only.
func (b borders) DialPort(ctx context.Context, ref string, port uint16) (duplex.Conn, error) {
	id, err := b.id(ref)
	if err != nil {
		return nil, err
	}
	if err := b.Wake(ctx, id); err != nil {
		return nil, err
	}
	life, err := b.Life(id)
	if err != nil {
		return nil, err
	}
	conn, err := b.dialPort(ctx, id, port)
	if err != nil {
		return nil, err
	}
	return mortal(conn, life), nil
}

// dialPort connects by the network or by the agent.
func (b borders) dialPort(ctx context.Context, id string, port uint16) (duplex.Conn, error) {
	quick, cancel := context.WithTimeout(ctx, byNetwork)
	conn, err := b.Border.Dial(quick, id, port)
	cancel()
	if err == nil {
		done, err := b.Use(id)
		if err != nil {
			conn.Close()
			return nil, err
		}
		return &usedConn{conn.(*net.TCPConn), done}, nil
	}
	var refused *net.OpError
	if !errors.As(err, &refused) {
		return nil, err
	}
	return b.dialInside(ctx, id, port)
}

// mortal returns a connection that ends with the machine: nothing else tells this
// side that there is nobody any more.
func mortal(conn duplex.Conn, life <-chan struct{}) duplex.Conn {
	closed := make(chan struct{})
	m := &mortalConn{Conn: conn, closed: sync.OnceFunc(func() { close(closed) })}
	go func() {
		select {
		case <-life:
			conn.Close()
		case <-closed:
		}
	}()
	return m
}

type mortalConn struct {
	duplex.Conn
	closed func()
}

// Close implements duplex.Conn.
func (m *mortalConn) Close() error {
	m.closed()
	return m.Conn.Close()
}

// dialInside has the agent connect.
func (b borders) dialInside(ctx context.Context, id string, port uint16) (duplex.Conn, error) {
	guest, err := b.Transport(ctx, id)
	if err != nil {
		return nil, err
	}
	body, up := io.Pipe()
	ctx, cut := context.WithCancel(context.WithoutCancel(ctx))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://guest"+ports.Path+strconv.Itoa(int(port)), body)
	if err != nil {
		cut()
		return nil, err
	}
	resp, err := guest.RoundTrip(req)
	if err != nil {
		cut()
		return nil, fmt.Errorf("connect to port %d of %s: %w", port, id, err)
	}
	if resp.StatusCode != http.StatusOK {
		cut()
		resp.Body.Close()
		return nil, fault.New(fault.Unavailable, "nothing listens on port %d of %s", port, id)
	}
	return &insideConn{ReadCloser: resp.Body, up: up, cut: cut}, nil
}

// usedConn is a connection that keeps its machine from being idle.
type usedConn struct {
	*net.TCPConn
	done func()
}

func (c *usedConn) Close() error {
	c.done()
	return c.TCPConn.Close()
}

// insideConn is a connection through the agent.
type insideConn struct {
	io.ReadCloser
	up  *io.PipeWriter
	cut context.CancelFunc
}

// Write implements duplex.Conn.
func (c *insideConn) Write(p []byte) (int, error) { return c.up.Write(p) }

// CloseWrite implements duplex.Conn.
func (c *insideConn) CloseWrite() error { return c.up.Close() }

// Close implements duplex.Conn.
func (c *insideConn) Close() error {
	c.up.CloseWithError(net.ErrClosed)
	c.cut()
	return c.ReadCloser.Close()
}
