// Package inject carries HTTPS requests of a guest to the one host that its
// secrets are for, and puts the secrets in on the way.
//
//	guest ──TLS by the sandbox's own authority──► Serve ──TLS, verified──► host
//
// A secret is put into a header, or in place of its placeholder wherever that
// stands in a header, credentials of Basic authentication included. It goes to
// this host on this port and nowhere else: redirects are the guest's to follow,
// and it follows them without. What the host sends back is searched for the
// secret on its way and masked.
//
// Requests and answers are streams: nothing is gathered, whatever their length.
// For that and for the search, some of what guests may ask for is not passed
// on: compression, which would hide an echo, and ranges, by which an echo could
// be read in pieces too short to find.
//
// inject must not know policies, certificates' origin or networks.
package inject

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"bulkhead/internal/single"
)

const (
	// sayLimit bounds how long TLS and the head of a request may take.
	sayLimit = 30 * time.Second
	// idleLimit is how long a connection may be without a request.
	idleLimit = 10 * time.Minute
	// maxHead bounds the head of a request and of an answer, in bytes.
	maxHead = 256 << 10
	// maxStreams bounds requests at once on one connection of HTTP/2, and so
	// the connections to the host.
	maxStreams = 100
)

// Secret is one that counts for the host.
type Secret struct {
	Name, Value string
	// Header is set to Format, with the value in place of {}. "" for a secret
	// that has a placeholder.
	Header, Format string
	// Placeholder is what the guest has of it; "" for none.
	Placeholder string
}

// Notice is something that the operator should know.
type Notice struct {
	// Kind is "used", "echoed", "missing", "stale" for a request with a dead
	// placeholder, or "refused" for one that is not passed on for another reason.
	Kind string
	// Secret is its name; "" where that is not known.
	Secret string
}

// Exchange says how requests to one host are carried. All fields are needed.
type Exchange struct {
	// Host is a normal name.
	Host string
	// Certificate is shown to the guest.
	Certificate func() (*tls.Certificate, error)
	// Secrets returns those that count now; it is asked for every request.
	Secrets func() ([]Secret, error)
	// Dial connects to the host, port 443. It is called once for HTTP/2 and as
	// often as it takes for HTTP/1.
	Dial func(context.Context) (net.Conn, error)
	// Config is for verifying the host.
	Config *tls.Config
	// Notice must not wait.
	Notice func(Notice)
}

// ErrGuest is why a guest could not be spoken to.
var ErrGuest = errors.New("TLS with the program in the guest fails")

// Serve carries the requests of one connection until it ends, and closes it.
// Nothing of it runs after that. ctx cuts it.
func (x *Exchange) Serve(ctx context.Context, guest net.Conn) error {
	defer guest.Close()
	conn, err := x.greet(ctx, guest)
	if err != nil {
		return err
	}
	t := transports{x.transport("h2", "http/1.1"), x.transport("http/1.1")}
	defer t.any.CloseIdleConnections()
	defer t.old.CloseIdleConnections()
	var all sync.WaitGroup
	defer all.Wait()                     // also for handlers whose connection is gone or not theirs
	silent := log.New(io.Discard, "", 0) // what a guest can cause is no news
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			all.Add(1)
			defer all.Done()
			x.carry(w, r, t)
		}),
		ReadHeaderTimeout: sayLimit,
		IdleTimeout:       idleLimit,
		MaxHeaderBytes:    maxHead,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog:          silent,
	}
	single.Serve(ctx, server, conn)
	return nil
}

// greet is the handshake.
func (x *Exchange) greet(ctx context.Context, guest net.Conn) (*tls.Conn, error) {
	certificate, err := x.Certificate()
	if err != nil {
		return nil, err
	}
	conn := tls.Server(guest, &tls.Config{
		Certificates: []tls.Certificate{*certificate}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12,
	})
	limited, cancel := context.WithTimeout(ctx, sayLimit)
	defer cancel()
	if err := conn.HandshakeContext(limited); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGuest, err)
	}
	return conn, nil
}

// transports lead to the host.
type transports struct {
	any *http.Transport
	// old speaks HTTP/1.1 only, in which a connection can change its protocol.
	old *http.Transport
}

func (t transports) of(r *http.Request) *http.Transport {
	if r.Header.Get("Upgrade") != "" {
		return t.old
	}
	return t.any
}

func (x *Exchange) transport(protocols ...string) *http.Transport {
	config := x.Config.Clone()
	config.ServerName, config.MinVersion, config.NextProtos = x.Host, tls.VersionTLS12, protocols
	return &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return x.Dial(ctx) },
		TLSClientConfig:     config,
		TLSHandshakeTimeout: sayLimit, ForceAttemptHTTP2: len(protocols) > 1, DisableCompression: true,
		MaxConnsPerHost: maxStreams, MaxIdleConnsPerHost: maxStreams, IdleConnTimeout: idleLimit,
		MaxResponseHeaderBytes: maxHead,
	}
}
