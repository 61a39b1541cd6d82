// Package server is the daemon's HTTP API, at every door of the host.
//
// It turns requests into calls of the interfaces below (contract.go) and
// their results into JSON of package client; it decides nothing about
// sandboxes and must not import the heart, a driver or the database. A
// request that is for a sandbox is not for the host at all: it goes to
// what serves there (package ingress).
//
// Who speaks is known before anything else: each door (Serve) comes with a
// guard that puts a principal (package auth) into the request's context. What
// a route needs of it stands in one table (needs.go), and a sandbox that the
// principal does not see is not found, whatever the route.
//
// Every request has an id, sent back as X-Request-Id and logged with all that
// is logged about it. A Server is safe for concurrent use.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"bulkhead/internal/server/e2b"
	"bulkhead/internal/server/e2b/builds"
	"bulkhead/internal/server/ingress"
	"bulkhead/internal/server/input"
	"bulkhead/internal/server/reply"
	"bulkhead/internal/server/token"
)

const (
	// maxHeader bounds a request's headers. Clients send one or two KiB.
	maxHeader = 64 << 10
	// headerTimeout bounds how long a request's headers take to arrive.
	headerTimeout = 10 * time.Second
	// idleTimeout is longer than that of any SDK's connection pool, so that
	// it is the client who closes an idle connection.
	idleTimeout = 640 * time.Second
	// maxStrangers bounds what those hold who need no key to reach a guest, which is
	// half of the connections that there are at a TCP port.
	maxStrangers = 2048
	// grace is how long requests under way may go on after the end was asked
	// for. A snapshot or rollback takes less than a second.
	grace = 10 * time.Second
)

// Options are the parts of the daemon that the API shows. All are needed.
type Options struct {
	// E2B is what clients of E2B know as well.
	E2B *e2b.API
	// Builds is how they have templates built.
	Builds    *builds.API
	Sandboxes Sandboxes
	Power     Power
	Snapshots Snapshots
	Templates Templates
	Egress    Egress
	Questions Questions
	Lessons   Lessons
	Ports     Ports
	Ingress   Ingress
	// Tokens are those of sandboxes.
	Tokens  token.Seed
	Secrets Secrets
	Keys    Keys
	Parcels Parcels
	SSH     SSH
	// MCP serves tools to agents.
	MCP    http.Handler
	Events Events
	// EventsVerified checks the log of them.
	EventsVerified EventsVerified
	// Info describes the daemon.
	Info Info
	// More are routes that answer bit by bit, by pattern; nil for none.
	More map[string]func(http.ResponseWriter, *http.Request) error
	// Ready says why the daemon cannot do its work although it runs.
	Ready Ready
	// Metrics counts what is answered; nil for nobody.
	Metrics Metrics
	Log     *slog.Logger
}

// Server is the API.
type Server struct {
	Options
	mux *http.ServeMux
	// needs are of all routes.
	needs map[string]need
	// headerTimeout is how long a request's headers may take, bodyTimeout a JSON
	// body, and still how long another may stand still.
	headerTimeout, bodyTimeout, still time.Duration
	ingress                           *ingress.Proxy
	// answering has the requests under way, of connections that are the server's
	// no more too.
	answering sync.WaitGroup
	// streams ends when no stream may go on.
	streams     context.Context
	stopStreams context.CancelFunc
}

// New returns the API of the given parts.
func New(opts Options) *Server {
	s := &Server{Options: opts, mux: http.NewServeMux(), needs: needs(), headerTimeout: headerTimeout, bodyTimeout: input.Patience, still: input.Still}
	s.E2B.Describe = reply.Describe
	s.ingress = &ingress.Proxy{Sandboxes: guests{opts.Sandboxes, opts.Ports, opts.Ingress}, Tokens: opts.Tokens, Clock: time.Now, Patience: input.Still, Strangers: maxStrangers, Log: opts.Log}
	s.streams, s.stopStreams = context.WithCancel(context.Background())
	s.routes()
	return s
}

// Door is a way in: where connections come from, and who they are.
type Door struct {
	net.Listener
	// Guard stands before all that is asked here, and says who is asking.
	Guard func(http.Handler) http.Handler
}

// Serve answers requests at all doors until ctx ends, which is no error.
// Streams (console, events, builds, everything to a guest) are cut at once then;
// other requests have ten seconds to finish. When it returns, the doors are
// closed and nothing of it runs any more. A door that breaks ends all. It may be
// called once.
func (s *Server) Serve(ctx context.Context, doors ...Door) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(doors))
	var all sync.WaitGroup
	for i, d := range doors {
		all.Go(func() {
			defer cancel()
			errs[i] = s.serve(ctx, d)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// serve answers requests at one door.
func (s *Server) serve(ctx context.Context, d Door) error {
	var conns sync.WaitGroup
	srv := &http.Server{
		Handler:           s.Handler(d.Guard),
		MaxHeaderBytes:    maxHeader,
		ReadHeaderTimeout: s.headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		// HTTP/1.1 alone: a connection that is cut is then an answer that is cut,
		// for whoever it is.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
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
	go func() { served <- srv.Serve(d) }()

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
	s.answering.Wait()
	if failed != nil {
		err = errors.Join(fmt.Errorf("serve API: %w", failed), err)
	}
	return err
}
