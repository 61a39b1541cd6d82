// Package session lets a browser use a key that its pages cannot read: the key
// is exchanged for a cookie once, and from then on the cookie stands for it.
//
// A cookie is sent by the browser on its own, so it counts for less than a key:
// only for what the host itself answers, never for what a guest would, and for
// what changes something only with a token that a page of ours alone can read.
// Package gate, which comes after it, refuses foreign origins besides.
//
// Sessions are kept in memory: the end of the daemon is the end of all. A key
// that is revoked ends its sessions with it. session must not know what is
// served. Sessions is safe for concurrent use.
package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"sync"
	"time"

	"bulkhead/internal/server/ingress"
)

const (
	// idle is how long a session lasts that is not used, longest one that is.
	idle    = 12 * time.Hour
	longest = 7 * 24 * time.Hour
	// maxSessions bounds what is held in memory. The one that was used least
	// recently makes room.
	maxSessions = 1000
)

// tokenHeader has the token by which a page of ours shows that it is one.
const tokenHeader = "X-Bulkhead-Csrf"

// keyHeader is where package gate looks for a key.
const keyHeader = "X-Api-Key"

// The names of the cookie. One that begins with __Host- cannot be set by a page
// of another name below the host's domain, as those of sandboxes are (RFC 6265bis,
// section 4.1.3.2); it needs TLS.
const (
	plainCookie  = "bulkhead_session"
	secureCookie = "__Host-bulkhead_session"
)

// Keys knows keys.
type Keys interface {
	// Admit returns a context with the principal of a key, which ends when the
	// key does; auth.ErrUnknown for what is no good key.
	Admit(ctx context.Context, value string) (_ context.Context, done func(), err error)
}

// Sessions are those of a host.
type Sessions struct {
	Keys  Keys
	Clock func() time.Time

	mu  sync.Mutex
	all map[[sha256.Size]byte]*session // by the hash of the cookie; guarded by mu
}

// session stands for a key. Its fields but used do not change.
type session struct {
	key   string
	token string
	began time.Time
	used  time.Time // guarded by the mutex of Sessions
}

func (s *session) over(now time.Time) bool {
	return now.Sub(s.used) > idle || now.Sub(s.began) > longest
}

// Guard stands before package gate: it puts the key that a cookie stands for in
// the cookie's place, so that everything that holds for keys holds here. The
// cookie itself it takes off all requests, and from those without one it takes
// nothing.
func (s *Sessions) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value := takeCookie(r)
		_, guest, err := ingress.Find(r)
		if guest || err != nil {
			next.ServeHTTP(w, r)
			return
		}
		protect(w.Header())
		found := s.find(value)
		if found == nil || elsewhere(r) || r.Header.Get(keyHeader) != "" || r.Header.Get("Authorization") != "" {
			next.ServeHTTP(w, r)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), contextKey{}, bound{value, found}))
		if !changes(r) || same(r.Header.Get(tokenHeader), found.token) {
			r.Header.Set(keyHeader, found.key)
		}
		next.ServeHTTP(w, r)
	})
}

// bound is the session that a request comes with, and its cookie.
type bound struct {
	cookie string
	*session
}

type contextKey struct{}

// changes reports whether a request may change something. One that becomes a
// WebSocket cannot have a header of its own: package gate and the upgrade itself
// look at its origin.
func changes(r *http.Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

// elsewhere reports whether the browser says that another page asks: one of a
// sandbox, below the same domain, comes with the cookie (Fetch Metadata, W3C).
func elsewhere(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site != "" && site != "same-origin" && site != "none"
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// protect sets what keeps an answer of the API from being anything but data to
// a browser, and data that it does not keep. What may be kept says so itself.
func protect(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// takeCookie returns the session's cookie and leaves the others. Without one it
// leaves all as it is.
func takeCookie(r *http.Request) (value string) {
	cookies := r.Cookies()
	ours := func(c *http.Cookie) bool { return c.Name == plainCookie || c.Name == secureCookie }
	if !slices.ContainsFunc(cookies, ours) {
		return ""
	}
	r.Header.Del("Cookie")
	for _, c := range cookies {
		switch {
		case c.Name == cookieName(r):
			value = c.Value
		case !ours(c):
			r.AddCookie(c)
		}
	}
	return value
}

func cookieName(r *http.Request) string {
	if r.TLS != nil {
		return secureCookie
	}
	return plainCookie
}

// begin makes a session for a key that is good, and returns its cookie.
func (s *Sessions) begin(key string) (cookie string, made *session) {
	now := s.Clock()
	cookie = rand.Text()
	made = &session{key: key, token: rand.Text(), began: now, used: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[[sha256.Size]byte]*session{}
	}
	s.makeRoom(now)
	s.all[sha256.Sum256([]byte(cookie))] = made
	return cookie, made
}

// makeRoom drops the sessions that are over, and one more if there are too many.
// mu is held.
func (s *Sessions) makeRoom(now time.Time) {
	var oldest [sha256.Size]byte
	for hash, held := range s.all {
		if held.over(now) {
			delete(s.all, hash)
			continue
		}
		if o := s.all[oldest]; o == nil || held.used.Before(o.used) {
			oldest = hash
		}
	}
	if len(s.all) >= maxSessions {
		delete(s.all, oldest)
	}
}

// find returns the session of a cookie, nil if there is none (any more).
func (s *Sessions) find(cookie string) *session {
	if cookie == "" {
		return nil
	}
	now := s.Clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.all[sha256.Sum256([]byte(cookie))]
	if held == nil || held.over(now) {
		return nil
	}
	held.used = now
	return held
}

func (s *Sessions) end(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(cookie)))
}
