// Package gate stands at the doors by which others than root come in: TCP
// ports. It says who is asking, and turns away who must not ask at all.
//
// What gives somebody a right here is a key (package auth), and nothing that a
// browser would send on its own, so that a page cannot use what its visitor may
// do. The console's cookie is looked at before, by package page/session, which
// puts a key in its place if the console itself has sent it. Against pages it also refuses names of
// this host that are not its own (DNS rebinding) and requests of foreign origins
// that could change something, in that order and before anything is looked up.
//
// gate must not know what is served behind it. A Gate is safe for concurrent
// use.
package gate

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/ingress"
	"bulkhead/internal/server/quota"
	"bulkhead/internal/server/reply"

	"github.com/rs/cors"
)

// Keys knows keys.
type Keys interface {
	// Admit returns a context with the principal of a key, which ends when the
	// key does; auth.ErrUnknown for what is no good key.
	Admit(ctx context.Context, value string) (_ context.Context, done func(), err error)
}

// Gate is what stands at a TCP port.
type Gate struct {
	Keys Keys
	// Quota bounds how often each key asks; nil for no bound.
	Quota *quota.Quota
	// Domain is the host's name; "" if it has none. Names below it are the
	// host's too.
	Domain string
	// Origins are those of pages that may use the API, like
	// "https://console.example.com".
	Origins []string
	Log     *slog.Logger
}

// Guard implements the guard of a door.
func (g *Gate) Guard(next http.Handler) http.Handler {
	known := g.identify(next)
	shared := known
	if len(g.Origins) > 0 {
		shared = cors.New(cors.Options{
			AllowedOrigins: g.Origins, AllowedMethods: []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"},
			AllowedHeaders: []string{"*"},
			ExposedHeaders: []string{"X-Next-Token", "X-Total-Running", "X-Request-Id",
				"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After"},
		}).Handler(known)
	}
	origins := g.crossOrigin()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			// It may have said a length as well, which is gone by now. What somebody in
			// front of this host counted differently must not be read as another request
			// (RFC 9112, section 6.3).
			w.Header().Set("Connection", "close")
		}
		switch {
		case !g.ours(r.Host):
			refuse(w, r, &client.Error{Code: http.StatusMisdirectedRequest, Kind: string(fault.Denied),
				Message: "this host is not called " + reply.OneLine(r.Host[:min(len(r.Host), 128)]),
				Hint:    "use localhost or an address of it, or set its domain in the configuration"})
		case visits(r):
			known.ServeHTTP(w, r) // who may share it is for the service to say
		case foreign(origins, r):
			refuse(w, r, &client.Error{Code: http.StatusForbidden, Kind: string(fault.Denied),
				Message: "requests of pages of other origins are refused",
				Hint:    "add the page's origin to cors_origins in the configuration"})
		default:
			shared.ServeHTTP(w, r)
		}
	})
}

func refuse(w http.ResponseWriter, r *http.Request, e *client.Error) {
	e.RequestID = reply.RequestID(r.Context())
	w.Header().Set("Connection", "close")
	reply.JSON(w, e.Code, e)
}

// ours reports whether a Host header names this host. Addresses do, whatever
// they are: it takes a name to make a browser believe that another's address is
// a page's own.
func (g *Gate) ours(host string) bool {
	name := ingress.Hostname(host)
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	for _, domain := range []string{"localhost", g.Domain} {
		if domain != "" && (name == domain || strings.HasSuffix(name, "."+domain)) {
			return true
		}
	}
	return false
}

func (g *Gate) crossOrigin() *http.CrossOriginProtection {
	p := http.NewCrossOriginProtection()
	for _, o := range g.Origins {
		_ = p.AddTrustedOrigin(o) // the configuration has checked them
	}
	return p
}

// foreign reports whether a request that could change something comes from a
// page that is not ours. A WebSocket could, although it begins with GET.
func foreign(p *http.CrossOriginProtection, r *http.Request) bool {
	if r.Header.Get("Upgrade") != "" {
		asked := *r
		asked.Method = http.MethodPost
		r = &asked
	}
	return p.Check(r) != nil
}

// visits reports whether a request is for a page or service of somebody in a
// sandbox, by a host name of its own: other origins are its own business.
func visits(r *http.Request) bool {
	a, ok, err := ingress.Find(r)
	return ok && err == nil && a.ByName && a.Port != ingress.AgentPort
}

// identify says who is asking.
func (g *Gate) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value := KeyOf(r)
		if value == "" {
			next.ServeHTTP(w, r)
			return
		}
		ctx, done, err := g.Keys.Admit(r.Context(), value)
		if err != nil { // what needs a key will say so
			next.ServeHTTP(w, r)
			return
		}
		defer done()
		if err := g.take(w, auth.From(ctx)); err != nil {
			reply.Fail(g.Log, w, r.WithContext(ctx), err)
			return
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// take counts a request of a key, and says how many are left.
func (g *Gate) take(w http.ResponseWriter, p auth.Principal) error {
	v := g.Quota.Take(p.Key)
	if v.Limit > 0 {
		w.Header().Set("RateLimit-Limit", strconv.Itoa(v.Limit))
		w.Header().Set("RateLimit-Remaining", strconv.Itoa(v.Remaining))
		w.Header().Set("RateLimit-Reset", strconv.Itoa(v.Reset))
	}
	if v.OK {
		return nil
	}
	w.Header().Set("Retry-After", strconv.Itoa(v.RetryAfter))
	return fault.New(fault.Limited, "key %s has sent more than %d requests within a second", p.Key, v.Limit)
}

// KeyOf returns the key that a request comes with; "" if what it comes with is
// none of ours.
func KeyOf(r *http.Request) string {
	if v := r.Header.Get("X-Api-Key"); auth.LooksLike(v) {
		return v
	}
	if v, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && auth.LooksLike(v) {
		return v
	}
	return ""
}
