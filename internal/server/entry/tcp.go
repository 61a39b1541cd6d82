package entry

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/netutil"
)

// maxConns bounds the connections of one TCP port. An idle one costs some 20 KiB.
const maxConns = 4096

// keepAlive finds peers that have gone without a word within a minute.
const keepAlive = 15 * time.Second

// Plain listens on an address in the clear. Which addresses are fit for that is
// the configuration's business.
func Plain(ctx context.Context, addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 3,
	}}
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return netutil.LimitListener(l, maxConns), nil
}

// TLS listens on an address by TLS 1.2 or later.
func TLS(ctx context.Context, addr string, cert func(*tls.ClientHelloInfo) (*tls.Certificate, error)) (net.Listener, error) {
	l, err := Plain(ctx, addr)
	if err != nil {
		return nil, err
	}
	return tls.NewListener(l, &tls.Config{
		GetCertificate: cert, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	}), nil
}
