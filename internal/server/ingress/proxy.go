package ingress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/internal/duplex"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/input"
	"bulkhead/internal/server/reply"
	"bulkhead/internal/server/token"
)

// maxGuestHeader bounds the headers of an answer from a guest.
const maxGuestHeader = 64 << 10

// How often a port is tried that refuses: a service may be just about to listen.
const (
	dialTries          = 5
	pauseMin, pauseMax = 100 * time.Millisecond, 400 * time.Millisecond
)

// toAgent passes a request on to the agent, which speaks plain HTTP only.
func (p *Proxy) toAgent(w http.ResponseWriter, r *http.Request, a Address, id string) {
	transport, err := p.Sandboxes.Transport(r.Context(), id)
	if err != nil {
		p.unreachable(w, r, a, err)
		return
	}
	if isFile(r) {
		input.Steady(w, r, p.Patience)
	}
	p.reverse(a, transport, func(out *httputil.ProxyRequest) {
		out.Out.Header.Del("Connection")
		out.Out.Header.Del("Upgrade")
		// Keys and tokens for the host are none of the guest's business.
		out.Out.Header.Del("X-Api-Key")
		out.Out.Header.Del(accessHeader)
		dropKeys(out.Out.Header)
	}).ServeHTTP(w, r)
}

// toPort passes a request on to whatever listens on a port.
func (p *Proxy) toPort(w http.ResponseWriter, r *http.Request, a Address, to target) {
	conn, err := p.dial(r.Context(), to.id, uint16(a.Port))
	if fault.Is(err, fault.Unavailable) {
		reply.LogFailure(p.Log, r, http.StatusBadGateway, err)
		p.closed(w, r, a)
		return
	}
	if err != nil {
		p.unreachable(w, r, a, err)
		return
	}
	defer conn.Close()
	transport := &http.Transport{
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return netConn{conn}, nil },
		MaxResponseHeaderBytes: maxGuestHeader, DisableCompression: true, DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	p.reverse(a, transport, func(out *httputil.ProxyRequest) {
		if mask := to.rules.MaskHost; mask != "" {
			out.Out.Header.Set("X-Forwarded-Host", out.In.Host)
			out.Out.Host = strings.ReplaceAll(mask, "${PORT}", strconv.Itoa(a.Port))
		}
		out.Out.Header.Del(trafficHeader)
		dropKeys(out.Out.Header)
		p.dropTokens(r.Context(), out.Out.Header)
	}).ServeHTTP(w, r)
}

// dropTokens takes tokens for agents out of a request to a service, which may have
// tokens of its own: whose ever it is, it lets whoever has it run programs there.
func (p *Proxy) dropTokens(ctx context.Context, h http.Header) {
	ours := func(v string) bool {
		return slices.ContainsFunc(p.Sandboxes.IDs(ctx), func(id string) bool { return token.Is(v, p.Tokens.Access(id)) })
	}
	if slices.ContainsFunc(h.Values(accessHeader), ours) {
		h.Del(accessHeader)
	}
}

// dropKeys takes our keys out of a request; a service may have keys of its own.
func dropKeys(h http.Header) {
	for _, name := range []string{"X-Api-Key", "Authorization"} {
		if slices.ContainsFunc(h.Values(name), isKey) {
			h.Del(name)
		}
	}
}

// isKey reports whether the value of a header is a key of ours, however it is written.
func isKey(v string) bool {
	words := strings.Fields(v)
	return len(words) > 0 && auth.LooksLike(words[len(words)-1])
}

// dial connects to a port, patiently.
func (p *Proxy) dial(ctx context.Context, id string, port uint16) (duplex.Conn, error) {
	for try := 1; ; try++ {
		conn, err := p.Sandboxes.DialPort(ctx, id, port)
		if try == dialTries || !fault.Is(err, fault.Unavailable) {
			return conn, err
		}
		t := time.NewTimer(pauseMin + rand.N(pauseMax-pauseMin))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		}
	}
}

// netConn is a connection in the words of package net. What it cannot do is not
// asked of it.
type netConn struct{ duplex.Conn }

func (netConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (netConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (netConn) SetDeadline(time.Time) error      { return nil }
func (netConn) SetReadDeadline(time.Time) error  { return nil }
func (netConn) SetWriteDeadline(time.Time) error { return nil }

// reverse returns the proxy for one request to a sandbox. If the guest's
// answer breaks off, it cuts the client's connection: an answer that only
// seems whole would be worse.
func (p *Proxy) reverse(a Address, transport http.RoundTripper, adapt func(*httputil.ProxyRequest)) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:     quiet{transport},
		FlushInterval: -1, // every piece at once
		Rewrite: func(out *httputil.ProxyRequest) {
			// Hop-by-hop headers are gone by now, but for an upgrade's.
			out.Out.URL.Scheme, out.Out.URL.Host = "http", "guest"
			out.Out.Host = out.In.Host
			// The query as it came: signatures cover it, and it is the guest's to read.
			out.Out.URL.RawQuery = out.In.URL.RawQuery
			adapt(out)
		},
		ModifyResponse: checkAnswer,
		ErrorLog:       slog.NewLogLogger(p.Log.With("sandbox", a.Ref).Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			reply.LogFailure(p.Log, r, http.StatusBadGateway, err)
			e := reply.Describe(r.Context(), err)
			if fault.KindOf(err) == fault.Internal { // of the connection to the guest
				e.Kind, e.Message, e.Hint = string(fault.Unavailable), "sandbox "+a.Ref+" does not answer", ""
				if auth.From(r.Context()).IsOperator() {
					e.Message = reply.OneLine(fmt.Sprintf("%s: %v", e.Message, err))
				}
			}
			e.Code = http.StatusBadGateway
			p.refuse(w, r, refusal{SandboxID: a.Ref, Error: e})
		},
	}
}

// checkAnswer refuses what is no answer.
func checkAnswer(res *http.Response) error {
	// Below 200 is, but for an upgrade that was asked for, what package net/http
	// panics on.
	upgraded := res.StatusCode == http.StatusSwitchingProtocols && res.Request.Header.Get("Upgrade") != ""
	if (res.StatusCode < 200 || res.StatusCode > 599) && !upgraded {
		return fmt.Errorf("status %d is not an answer", res.StatusCode)
	}
	size := 0
	for k, vs := range res.Header {
		for _, v := range vs {
			size += len(k) + len(v)
		}
	}
	if size > maxGuestHeader {
		return errors.New("headers of the answer are too large")
	}
	res.Header.Del("X-Request-Id") // ours is set already
	return nil
}

// quiet keeps informational answers (1xx) from the proxy, which would pass on
// any number of them. Without a listener for them, http.Transport counts them
// into its bound on response headers.
type quiet struct {
	http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (q quiet) RoundTrip(r *http.Request) (*http.Response, error) {
	return q.RoundTripper.RoundTrip(r.WithContext(untraced{r.Context()}))
}

// untraced hides the HTTP trace in a context.
type untraced struct {
	context.Context
}

// Value implements context.Context.
func (u untraced) Value(key any) any {
	v := u.Context.Value(key)
	if _, ok := v.(*httptrace.ClientTrace); ok {
		return nil
	}
	return v
}
