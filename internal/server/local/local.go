// Package local lets parts of the daemon be clients of the daemon's own API:
// what they may do, and how, is then decided in one place for everybody.
//
// The connections never leave the process. Who is asking is said by whoever
// makes the client, never by what is sent. local must not know what is asked.
// An API is safe for concurrent use.
package local

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"

	"bulkhead/client"
)

// API serves clients within the process.
type API struct {
	server *http.Server
	dialed chan *conn
	closed chan struct{}
	served chan struct{}
}

// conn is the API's end of a connection.
type conn struct {
	net.Conn
	who func(context.Context) context.Context
}

// New serves a handler until Close.
func New(h http.Handler) *API {
	a := &API{dialed: make(chan *conn), closed: make(chan struct{}), served: make(chan struct{})}
	a.server = &http.Server{
		Handler:     h,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return c.(*conn).who(ctx) },
		ErrorLog:    log.New(io.Discard, "", 0), // the handler logs what happens in it
	}
	go func() {
		defer close(a.served)
		_ = a.server.Serve(listener{a}) // ends with Close only
	}()
	return a
}

// As returns a client; who puts the one who is asking into the context of each
// of its requests. The caller closes it.
func (a *API) As(who func(context.Context) context.Context) *client.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		near, far := net.Pipe()
		select {
		case a.dialed <- &conn{far, who}:
			return near, nil
		case <-a.closed:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return client.Over(client.Way{
		Where: "this daemon", Base: "http://bulkhead", Transport: &http.Transport{DialContext: dial, DisableCompression: true},
	})
}

// Close cuts what goes on and waits for the listener's end.
func (a *API) Close() error {
	err := a.server.Close()
	<-a.served
	return err
}

// listener is the API's as net/http wants it.
type listener struct{ *API }

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.dialed:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The server calls it once.
func (l listener) Close() error {
	select {
	case <-l.closed:
		return errors.New("closed already")
	default:
		close(l.closed)
		return nil
	}
}

// Addr implements net.Listener.
func (l listener) Addr() net.Addr { return &net.UnixAddr{Name: "local", Net: "pipe"} }
