// Package single has an HTTP server serve one connection that somebody else has
// accepted.
package single

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// Serve serves conn until it is closed, its handler has taken it over, or ctx
// ends, which cuts it. The server must not serve anything else; its ConnState
// and BaseContext are set. Handlers may still run when it returns.
func Serve(ctx context.Context, server *http.Server, conn net.Conn) {
	l := &listener{conn: conn, closed: make(chan struct{})}
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			l.Close()
		}
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	server.Serve(l) // its error says only that the listener has ended
}

// listener has one connection.
type listener struct {
	conn   net.Conn
	given  bool // Accept is called by one goroutine only
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	if !l.given {
		l.given = true
		return l.conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return l.conn.LocalAddr() }
