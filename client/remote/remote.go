// Package remote leads to a daemon that listens on TCP: with a key, by TLS or on
// this host, and with patience when it has too much to do.
package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"bulkhead/client"
)

// Host is a daemon that listens on TCP.
type Host struct {
	// URL is where, like "https://bulkhead.example.com".
	URL string
	// Key is a key for it.
	Key string
	// Roots are who may certify it, nil for those that this host trusts.
	Roots *x509.CertPool
}

// Dial returns a client of a daemon at a URL. It does not connect yet. The
// key is sent to that URL alone, and in the clear only if the URL begins with
// http. The error, of type *client.Error, is that of a URL that is none.
func Dial(h Host) (*client.Client, error) {
	u, err := url.Parse(h.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, &client.Error{Code: http.StatusBadRequest, Kind: "invalid",
			Message: fmt.Sprintf("%q is not the URL of a daemon", h.URL), Hint: "write it like https://bulkhead.example.com"}
	}
	return client.Over(client.Way{
		Where: h.URL, Base: u.Scheme + "://" + u.Host, GuestHost: guestHost(u),
		Transport: &patient{key: h.Key, RoundTripper: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DisableCompression: true,
			TLSClientConfig: &tls.Config{RootCAs: h.Roots, MinVersion: tls.VersionTLS12},
		}},
	}), nil
}

// guestHost is under which name headers lead into a sandbox: a name that may be
// that of a sandbox itself is none.
func guestHost(u *url.URL) string {
	if _, err := netip.ParseAddr(u.Hostname()); err == nil || u.Hostname() == "localhost" {
		return ""
	}
	return "sandbox." + u.Host
}

const (
	// mostTries is how often a request is sent that the daemon is too busy for: it
	// has done nothing for it then.
	mostTries = 4
	// mostWait is the longest that it is waited for.
	mostWait = 30 * time.Second
	// maxRefusal bounds what is read of a refusal.
	maxRefusal = 64 << 10
)

// patient sends a key along, and a request again when the daemon says so.
type patient struct {
	http.RoundTripper
	key string
}

// CloseIdleConnections is for http.Client.
func (p *patient) CloseIdleConnections() {
	if c, ok := p.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip implements http.RoundTripper.
func (p *patient) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	if p.key != "" {
		req.Header.Set("X-Api-Key", p.key)
	}
	for try := 1; ; try++ {
		resp, err := p.RoundTripper.RoundTrip(req)
		if err != nil || resp.StatusCode != http.StatusTooManyRequests || try == mostTries {
			return resp, err
		}
		wait, ok := waitOf(resp)
		again, can := rewound(req)
		if !ok || !can {
			return resp, nil
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxRefusal))
		resp.Body.Close()
		if err := sleep(req.Context(), wait); err != nil {
			return nil, err
		}
		req = again
	}
}

// waitOf is how long a refusal says to wait.
func waitOf(resp *http.Response) (time.Duration, bool) {
	n, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	wait := time.Duration(n) * time.Second
	return wait, err == nil && wait > 0 && wait <= mostWait
}

// rewound returns a request to send again, if its body can be.
func rewound(req *http.Request) (*http.Request, bool) {
	again := req.Clone(req.Context())
	if req.Body == nil || req.Body == http.NoBody {
		return again, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	again.Body = body
	return again, err == nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
