// Package ports connects the host to what listens on the guest's own loopback,
// which nothing outside reaches by network.
//
// A connection is one request (package duplex).
//
// ports must not know who asks: the host lets nobody else reach it.
package ports

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"time"

	"bulkhead/internal/duplex"
)

// Path begins the path of a request; the port follows. The host keeps what
// begins with "bulkhead." to itself.
const Path = "/bulkhead.port/"

// dialLimit is far above what loopback takes.
const dialLimit = 10 * time.Second

// Handler connects to the port that a request's path names. It answers 502 if
// nothing listens there.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := duplex.Prepare(w); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		port, err := strconv.ParseUint(r.URL.Path[len(Path):], 10, 16)
		if err != nil || port == 0 {
			http.Error(w, "no port", http.StatusBadRequest)
			return
		}
		conn, err := dial(r.Context(), strconv.FormatUint(port, 10))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		if err := duplex.Serve(w, r, conn); err != nil {
			panic(http.ErrAbortHandler) // cut, not ended
		}
	})
}

// dial tries both addresses that a program can mean by localhost.
func dial(ctx context.Context, port string) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		if conn, e := d.DialContext(ctx, "tcp", net.JoinHostPort("::1", port)); e == nil {
			return conn.(*net.TCPConn), nil
		}
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}
