package session_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/page/session"
)

// keys knows some keys by value.
type keys map[string]auth.Principal

func (k keys) Admit(ctx context.Context, value string) (context.Context, func(), error) {
	p, ok := k[value]
	if !ok {
		return nil, nil, auth.ErrUnknown
	}
	return auth.With(ctx, p), func() {}, nil
}

// desk is sessions with a clock and what is behind them.
type desk struct {
	*session.Sessions
	now  time.Time
	keys keys
	// asked is who asked last, and with which cookies.
	asked   auth.Principal
	cookies string
}

func newDesk() *desk {
	d := &desk{now: time.Unix(1e9, 0), keys: keys{"good": {Team: "default", Scope: auth.Admin, Key: "console"}}}
	d.Sessions = &session.Sessions{Keys: d.keys, Clock: func() time.Time { return d.now }}
	return d
}

func (d *desk) handler() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, do func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if do(w, r) != nil {
				w.WriteHeader(http.StatusUnauthorized)
			}
		})
	}
	route("POST /session", d.Begin)
	route("GET /session", d.Who)
	route("DELETE /session", d.End)
	mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) {
		d.asked, d.cookies = auth.From(r.Context()), r.Header.Get("Cookie")
	})
	return d.Guard(d.gate(mux))
}

// gate admits what comes with a good key in a header.
func (d *desk) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ctx, done, err := d.keys.Admit(r.Context(), r.Header.Get("X-Api-Key")); err == nil {
			defer done()
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(w, r)
	})
}

func (d *desk) ask(r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	d.asked, d.cookies = auth.Principal{}, ""
	d.handler().ServeHTTP(w, r)
	return w.Result()
}

// signIn returns the cookie and what the page is told.
func (d *desk) signIn(t *testing.T) (*http.Cookie, client.Session) {
	t.Helper()
	resp := d.ask(httptest.NewRequest("POST", "http://localhost/session", strings.NewReader(`{"key": "good"}`)))
	var s client.Session
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil || len(resp.Cookies()) != 1 {
		t.Fatalf("signing in: %d, %v, cookies %v", resp.StatusCode, err, resp.Cookies())
	}
	return resp.Cookies()[0], s
}

func request(method, url string, c *http.Cookie, header ...string) *http.Request {
	r := httptest.NewRequest(method, url, nil)
	if c != nil {
		r.AddCookie(c)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func TestCookieIsNotForScripts(t *testing.T) {
	d := newDesk()
	c, s := d.signIn(t)
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.Name != "bulkhead_session" {
		t.Errorf("cookie %s", c)
	}
	if s.Name != "console" || s.Scope != "admin" || s.CSRF == "" || s.CSRF == c.Value {
		t.Errorf("session %+v", s)
	}
	r := httptest.NewRequest("POST", "https://host.example/session", strings.NewReader(`{"key": "good"}`))
	r.TLS = &tls.ConnectionState{}
	if c := d.ask(r).Cookies()[0]; !c.Secure || !strings.HasPrefix(c.Name, "__Host-") {
		t.Errorf("by TLS, cookie %s", c)
	}
}

// What the host answers is data to a browser, for this page alone, and nothing to
// keep; what a guest answers is the guest's.
func TestAnswersAreNoPages(t *testing.T) {
	d := newDesk()
	h := d.ask(request("GET", "http://localhost/x", nil)).Header
	for key, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
	} {
		if got := h.Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") {
		t.Errorf("policy %q", csp)
	}
	if h := d.ask(request("GET", "http://8080-iabc.localhost/x", nil)).Header; h.Get("Content-Security-Policy") != "" || h.Get("Cache-Control") != "" {
		t.Errorf("a guest's answer has %v", h)
	}
}

func TestBadKeyGetsNoSession(t *testing.T) {
	d := newDesk()
	for _, body := range []string{`{"key": "bad"}`, `{}`, ``, `[]`, strings.Repeat("x", 1<<20)} {
		resp := d.ask(httptest.NewRequest("POST", "http://localhost/session", strings.NewReader(body)))
		if resp.StatusCode != http.StatusUnauthorized || len(resp.Cookies()) > 0 {
			t.Errorf("%.40q: %d, cookies %v", body, resp.StatusCode, resp.Cookies())
		}
	}
}

func TestWhatACookieIsGoodFor(t *testing.T) {
	d := newDesk()
	c, s := d.signIn(t)
	other := &http.Cookie{Name: c.Name, Value: "somebody's"}
	token := []string{"X-Bulkhead-Csrf", s.CSRF}
	for name, tt := range map[string]struct {
		r    *http.Request
		want auth.Scope
	}{
		"looking":                       {request("GET", "http://localhost/v2/sandboxes", c), auth.Admin},
		"changing with the token":       {request("POST", "http://localhost/x", c, token...), auth.Admin},
		"changing without the token":    {request("POST", "http://localhost/x", c), auth.None},
		"changing with a wrong token":   {request("DELETE", "http://localhost/x", c, "X-Bulkhead-Csrf", "guess"), auth.None},
		"a method that nobody knows":    {request("PROPFIND", "http://localhost/x", c), auth.None},
		"a page of a sandbox":           {request("GET", "http://localhost/x", c, "Sec-Fetch-Site", "same-site"), auth.None},
		"a page of anybody":             {request("GET", "http://localhost/x", c, "Sec-Fetch-Site", "cross-site"), auth.None},
		"our page":                      {request("GET", "http://localhost/x", c, "Sec-Fetch-Site", "same-origin"), auth.Admin},
		"no cookie, but the token":      {request("POST", "http://localhost/x", nil, token...), auth.None},
		"another cookie":                {request("GET", "http://localhost/x", other), auth.None},
		"a guest, by header":            {request("GET", "http://localhost/x", c, "E2b-Sandbox-Id", "otter", "E2b-Sandbox-Port", "49983"), auth.None},
		"a guest, by header and broken": {request("GET", "http://localhost/x", c, "E2b-Sandbox-Id", "otter"), auth.None},
		"a guest, by name":              {request("GET", "http://8080-iabc.localhost/x", c), auth.None},
	} {
		t.Run(name, func(t *testing.T) {
			d.ask(tt.r)
			if d.asked.Scope != tt.want {
				t.Errorf("it may do %v, want %v", d.asked.Scope, tt.want)
			}
			if strings.Contains(d.cookies, c.Value) {
				t.Errorf("who answers gets the cookie: %s", d.cookies)
			}
		})
	}
}

func TestOtherCookiesArePassedOn(t *testing.T) {
	d := newDesk()
	c, _ := d.signIn(t)
	r := request("GET", "http://8080-iabc.localhost/", c)
	r.AddCookie(&http.Cookie{Name: "theirs", Value: "1"})
	d.ask(r)
	if d.cookies != "theirs=1" {
		t.Errorf("cookies %q", d.cookies)
	}
}

func TestEndsOfASession(t *testing.T) {
	for name, end := range map[string]func(d *desk, c *http.Cookie, s client.Session){
		"signed out": func(d *desk, c *http.Cookie, s client.Session) {
			d.ask(request("DELETE", "http://localhost/session", c, "X-Bulkhead-Csrf", s.CSRF))
		},
		"not used":    func(d *desk, _ *http.Cookie, _ client.Session) { d.now = d.now.Add(12*time.Hour + time.Second) },
		"key revoked": func(d *desk, _ *http.Cookie, _ client.Session) { delete(d.keys, "good") },
		"used for a week": func(d *desk, c *http.Cookie, _ client.Session) {
			for range 15 {
				d.now = d.now.Add(12 * time.Hour)
				d.ask(request("GET", "http://localhost/x", c))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk()
			c, s := d.signIn(t)
			if d.ask(request("GET", "http://localhost/x", c)); !d.asked.Known() {
				t.Fatal("the session is not good to begin with")
			}
			end(d, c, s)
			if d.ask(request("GET", "http://localhost/x", c)); d.asked.Known() {
				t.Error("the session is still good")
			}
		})
	}
}

// A page that only knows how to send cookies cannot sign its visitor out.
func TestSigningOutNeedsTheToken(t *testing.T) {
	d := newDesk()
	c, _ := d.signIn(t)
	if resp := d.ask(request("DELETE", "http://localhost/session", c)); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d", resp.StatusCode)
	}
	if d.ask(request("GET", "http://localhost/x", c)); !d.asked.Known() {
		t.Error("the session has ended")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	d := newDesk()
	first, _ := d.signIn(t)
	for range 1000 {
		d.now = d.now.Add(time.Second)
		d.signIn(t)
	}
	if d.ask(request("GET", "http://localhost/x", first)); d.asked.Known() {
		t.Error("the session that was used least has not made room")
	}
}
