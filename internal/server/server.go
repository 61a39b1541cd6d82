// Package server is the daemon's HTTP API on a unix socket.
//
// It turns requests into calls of the interfaces below (contract.go) and
// their results into JSON of package client; it decides nothing about
// sandboxes and must not import the heart, a driver or the database. A
// request that carries sandbox headers is not for the host at all: it goes to
// the agent in that sandbox (proxy.go).
//
// Who may speak: root and the daemon's own user, by the peer credentials of
// the socket, whatever the mode of its file. Because the client is the
// operator, an error's answer shows its whole chain even when it is internal.
// A listener for others (TCP with keys) will have to show "internal error"
// and the request id only, so Serve takes no other listener than this one.
//
// Every request has an id, sent back as X-Request-Id and logged with all that
// is logged about it. A Server is safe for concurrent use.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"bulkhead/internal/server/e2b"
)

const (
	// maxHeader bounds a request's headers. Clients send one or two KiB.
	maxHeader = 64 << 10
	// headerTimeout bounds how long a request's headers take to arrive.
	headerTimeout = 10 * time.Second
	// idleTimeout is longer than that of any SDK's connection pool, so that
	// it is the client who closes an idle connection.
	idleTimeout = 640 * time.Second
	// grace is how long requests under way may go on after the end was asked
	// for. A snapshot or rollback takes less than a second.
	grace = 10 * time.Second
)

// Options are the parts of the daemon that the API shows. All are needed.
type Options struct {
	// E2B is what clients of E2B know as well.
	E2B       *e2b.API
	Sandboxes Sandboxes
	Power     Power
	Snapshots Snapshots
	Templates Templates
	Egress    Egress
	Lessons   Lessons
	Ports     Ports
	Secrets   Secrets
	Parcels   Parcels
	Events    Events
	// EventsVerified checks the log of them.
	EventsVerified EventsVerified
	// Info describes the daemon.
	Info Info
	Log  *slog.Logger
}

// Server is the API.
type Server struct {
	Options
	mux *http.ServeMux
	// streams ends when no stream may go on.
	streams     context.Context
	stopStreams context.CancelFunc
}

// New returns the API of the given parts.
func New(opts Options) *Server {
	s := &Server{Options: opts, mux: http.NewServeMux()}
	s.E2B.Describe = describe
	s.streams, s.stopStreams = context.WithCancel(context.Background())
	s.routes()
	return s
}

// Serve answers requests on l until ctx ends, which is no error. Streams
// (console, events, builds, everything to a guest) are cut at once then;
// other requests have ten seconds to finish. When it returns, l is closed and
// nothing of it runs any more. It may be called once.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	var conns sync.WaitGroup
	srv := &http.Server{
		Handler:           s.Handler(),
		MaxHeaderBytes:    maxHeader,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				conns.Done()
			}
		},
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(peers{UnixListener: l, log: s.Log}) }()

	var failed error
	select {
	case failed = <-served:
		served <- failed
	case <-ctx.Done():
	}
	s.stopStreams()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := srv.Shutdown(limit); err != nil {
		s.Log.WarnContext(ctx, "requests cut off at shutdown", "err", err)
	}
	<-served // so that no connection is taken from here on
	err := srv.Close()
	conns.Wait()
	if failed != nil {
		err = errors.Join(fmt.Errorf("serve API: %w", failed), err)
	}
	return err
}
