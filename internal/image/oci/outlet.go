package oci

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"bulkhead/internal/fault"

	"github.com/google/go-containerregistry/pkg/name"
)

const (
	// maxAddresses bounds how many addresses of one name are tried.
	maxAddresses = 8
	// stall is how long a registry may say nothing.
	stall = time.Minute
	// dialTimeout bounds one attempt to connect, TLS apart.
	dialTimeout = 15 * time.Second
	// maxRedirects is what package http follows by itself; the library's own
	// check has no bound.
	maxRedirects = 10
	// maxHeader bounds the header of an answer.
	maxHeader = 64 << 10
)

// Registry is one that images may come from.
type Registry struct {
	// Host is as references have it, with a port if it is not 443.
	Host string
	// Plain is without TLS.
	Plain bool
	// Private may have an address that is not public: the operator named it.
	Private bool
}

// public are registries that everybody can push to or fetch from.
var public = []string{
	"docker.io", "ghcr.io", "quay.io", "gcr.io", "mirror.gcr.io", "public.ecr.aws", "registry.gitlab.com",
	"registry.k8s.io", "mcr.microsoft.com", "registry.access.redhat.com", "registry.fedoraproject.org", "registry.opensuse.org",
}

// Registries reads the operator's list: "public" for those that everybody knows,
// a host with or without a port, and http:// before one without TLS.
func Registries(list []string) ([]Registry, error) {
	var all []Registry
	add := func(host string, r Registry) error {
		known, err := name.NewRegistry(host)
		if err != nil {
			return fault.New(fault.Invalid, "registry %q: %w", host, err)
		}
		r.Host = known.RegistryStr()
		all = append(all, r)
		return nil
	}
	for _, entry := range list {
		if entry == "public" {
			for _, host := range public {
				if err := add(host, Registry{}); err != nil {
					return nil, err
				}
			}
			continue
		}
		host, plain := strings.CutPrefix(entry, "http://")
		if err := add(host, Registry{Plain: plain, Private: true}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Out is the way to the registries.
type Out interface {
	// Resolve returns the addresses of a name.
	Resolve(ctx context.Context, name string) ([]netip.Addr, error)
	// Dial connects by TCP.
	Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// outlet carries all requests of one pull: to listed registries and to where
// those send us, which is somewhere public or nowhere. It sees each hop of a
// redirection and each address that a name has.
type outlet struct {
	p     *Puller
	inner *http.Transport
}

func (p *Puller) outlet() *outlet {
	o := &outlet{p: p}
	o.inner = &http.Transport{
		DialContext: o.dial,
		// A blob has the size that its manifest says.
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  stall,
		MaxResponseHeaderBytes: maxHeader,
	}
	return o
}

func (o *outlet) close() { o.inner.CloseIdleConnections() }

// RoundTrip refuses what is not TLS, unless the operator said so of that
// registry, and bounds redirections, and answers that are no blobs.
func (o *outlet) RoundTrip(req *http.Request) (*http.Response, error) {
	first, hops := origin(req)
	if hops > maxRedirects {
		return nil, fault.New(fault.Unavailable, "the registry leads on more than %d times", maxRedirects)
	}
	r, listed := o.p.registry(req.URL.Host)
	switch {
	case req.URL.Scheme == "https":
	case req.URL.Scheme == "http" && listed && r.Plain:
	case req.URL.Scheme == "http" && listed:
		// The library takes addresses of private networks to have no TLS.
		req = req.Clone(req.Context())
		req.URL.Scheme = "https"
	default:
		return nil, fault.New(fault.Denied, "the registry leads to %.100q without TLS", req.URL.Host)
	}
	res, err := o.inner.RoundTrip(req)
	if err == nil && !isBlob(first) {
		res.Body = bounded{io.LimitReader(res.Body, maxManifest+1), res.Body, new(int)}
	}
	return res, err
}

// origin returns the request that a chain of redirections began with, and how
// many there were.
func origin(req *http.Request) (first *http.Request, hops int) {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
		hops++
	}
	return req, hops
}

// isBlob reports whether a request is for a blob.
func isBlob(req *http.Request) bool {
	return strings.HasPrefix(req.URL.Path, "/v2/") && strings.Contains(req.URL.Path, "/blobs/")
}

// bounded is an answer of at most maxManifest bytes.
type bounded struct {
	io.Reader
	io.Closer
	n *int
}

// Read fails at the bound, where a cut answer would pass for a whole one.
func (b bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if *b.n += n; *b.n > maxManifest {
		return 0, fault.New(fault.Exhausted, "the registry answers with more than %d MiB", maxManifest>>20)
	}
	return n, err
}

func (p *Puller) registry(host string) (Registry, bool) {
	for _, r := range p.Registries {
		if r.Host == host {
			return r, true
		}
	}
	return Registry{}, false
}

// private reports whether the operator named that host and port.
func (p *Puller) private(host, port string) bool {
	for _, r := range p.Registries {
		usual := "443"
		if r.Plain {
			usual = "80"
		}
		if r.Private && (r.Host == net.JoinHostPort(host, port) || port == usual && r.Host == host) {
			return true
		}
	}
	return false
}

// dial connects to a name. Whatever it resolves to, what is not public is
// refused unless the operator named it.
func (o *outlet) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	addresses, err := o.resolve(ctx, host)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "find %.100q: %w", host, err).Hint("is the name right, and does this host resolve it?")
	}
	open := o.p.private(host, port)
	last := fault.New(fault.Unavailable, "%.100q has no address", host)
	for _, a := range addresses[:min(len(addresses), maxAddresses)] {
		a = a.Unmap()
		if err := o.p.Closed(a); err != nil && !open {
			last = fault.New(fault.Denied, "the way to %.100q is closed: %w", host, err)
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, dialTimeout)
		conn, err := o.p.Out.Dial(attempt, netip.AddrPortFrom(a, uint16(number)))
		cancel()
		if err == nil {
			return &watched{conn}, nil
		}
		last = fault.New(fault.Unavailable, "connect to %.100q: %w", host, err).Hint("does this host reach it?")
	}
	return nil, last
}

func (o *outlet) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	return o.p.Out.Resolve(ctx, host)
}

// watched is a connection that ends when the other side is silent too long.
type watched struct{ net.Conn }

// Read waits for stall at most.
func (w *watched) Read(b []byte) (int, error) {
	if err := w.SetReadDeadline(time.Now().Add(stall)); err != nil {
		return 0, err
	}
	return w.Conn.Read(b)
}

// Write waits for stall at most.
func (w *watched) Write(b []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return 0, err
	}
	return w.Conn.Write(b)
}
