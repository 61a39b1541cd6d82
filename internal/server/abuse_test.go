package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/duplex"
	"bulkhead/internal/fault"
	"bulkhead/internal/server"
	"bulkhead/internal/server/auth"
)

// reader imports whatever it can read.
type reader struct{ server.Parcels }

func (reader) Import(_ context.Context, name string, r io.Reader) (client.Sandbox, error) {
	_, err := io.Copy(io.Discard, r)
	return client.Sandbox{Name: name}, err
}

// raw sends bytes and returns the connection.
func (p *port) raw(t *testing.T, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// TestBodiesThatStandStill ends requests whose bodies do not go on, wherever they
// would go.
func TestBodiesThatStandStill(t *testing.T) {
	guest := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	t.Cleanup(guest.Close)
	f := withTransport(dial(t, guest.Listener))
	f.impatient = true
	p := listen(t, f)
	key := p.key(t, auth.Key{Team: "a", Scope: auth.Operate})
	toAgent := "E2b-Sandbox-Id: ia\r\nE2b-Sandbox-Port: 49983\r\n"
	for name, tt := range map[string]struct {
		head string
		want int
	}{
		"JSON":        {"POST /v2/sandboxes HTTP/1.1\r\n", 504},
		"a tool call": {"POST /mcp HTTP/1.1\r\n", 504},
		"a sandbox":   {"POST /sandboxes/import HTTP/1.1\r\n", 504},
		"a file":      {"POST /files?path=/a HTTP/1.1\r\n" + toAgent, 502},
	} {
		t.Run(name, func(t *testing.T) {
			_, answer := p.raw(t, tt.head+"Host: localhost\r\nX-API-Key: "+key+"\r\nContent-Length: 100\r\n\r\n{")
			res, err := http.ReadResponse(answer, nil)
			if err != nil {
				return // cut, which ends it as well
			}
			b, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != tt.want || !strings.Contains(string(b), "request body") {
				t.Errorf("answer = %d %s, %v, want %d", res.StatusCode, b, err, tt.want)
			}
			if _, err := answer.ReadByte(); err == nil {
				t.Error("the connection goes on")
			}
		})
	}
}

// TestHeadersThatDoNotEnd: who sends them drop by drop holds no connection.
func TestHeadersThatDoNotEnd(t *testing.T) {
	p := listen(t, fake{hurried: true})
	for _, text := range []string{"", "GET /health HTTP/1.1\r\nHost: local", "GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n"} {
		_, answer := p.raw(t, text)
		if b, err := io.ReadAll(answer); err != nil || strings.Contains(string(b), "204") {
			t.Errorf("%q is answered with %q, %v", text, b, err)
		}
	}
}

// TestBodiesOfStrangersAreNotRead: what anybody may ask says nothing in its body,
// and must not fill the host's memory with it.
func TestBodiesOfStrangersAreNotRead(t *testing.T) {
	p := listen(t, fake{})
	_, answer := p.raw(t, "GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000000\r\n\r\n{")
	res, err := http.ReadResponse(answer, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 204 || !res.Close {
		t.Errorf("answer = %s, closed: %v", res.Status, res.Close)
	}
}

// TestLengthAndCodingAreOneRequest: of two ways to say where a body ends, a guest
// gets to see the one that counts here, and nothing follows on the connection
// that somebody in front of this host may have taken for the body's end.
func TestLengthAndCodingAreOneRequest(t *testing.T) {
	seen := make(chan string, 8)
	guest := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen <- fmt.Sprintf("%s %s %d %v %q", r.Method, r.URL.Path, r.ContentLength, r.TransferEncoding, b)
	}))
	t.Cleanup(guest.Close)
	f := guestWorld(t)
	f.transport = func(context.Context, string) (http.RoundTripper, error) { return dial(t, guest.Listener), nil }
	f.dialPort = func(ctx context.Context, _ string, _ uint16) (duplex.Conn, error) {
		return dialTCP(ctx, guest.Listener)
	}
	f.fakeSandboxes.list = func(context.Context) ([]client.Sandbox, error) { return nil, nil }
	f.fakeSandboxes.remove = func(context.Context, string) error {
		t.Error("the smuggled request was answered")
		return nil
	}
	p := listen(t, f)
	key := p.key(t, auth.Key{Team: "a", Scope: auth.Admin})
	hidden := "DELETE /sandboxes/ia HTTP/1.1\r\nHost: localhost\r\nX-API-Key: " + key + "\r\n\r\n"
	body := fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n%s", 13+len(hidden), hidden)
	for name, tt := range map[string]struct{ head, forwarded string }{
		"to the host":  {"GET /v2/sandboxes HTTP/1.1\r\nHost: localhost\r\n", ""},
		"to the agent": {"POST /x HTTP/1.1\r\nHost: localhost\r\nE2b-Sandbox-Id: ia\r\nE2b-Sandbox-Port: 49983\r\n", `POST /x -1 [chunked] "abc"`},
		"to a port":    {"POST /x HTTP/1.1\r\nHost: 8000-ia.localhost\r\n", `POST /x -1 [chunked] "abc"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, answer := p.raw(t, tt.head+"X-API-Key: "+key+"\r\n"+body)
			res, err := http.ReadResponse(answer, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 200 {
				t.Errorf("answer = %s, %v", res.Status, err)
			}
			if rest, _ := io.ReadAll(answer); len(rest) > 0 {
				t.Errorf("another answer follows: %q", rest)
			}
			if tt.forwarded == "" {
				return
			}
			if got := <-seen; got != tt.forwarded {
				t.Errorf("the guest sees %s, want %s", got, tt.forwarded)
			}
		})
	}
}

// TestTargetSaysWhichHost: a target with a host in it is what the request is for,
// whatever the header says (RFC 9112, section 3.2.2).
func TestTargetSaysWhichHost(t *testing.T) {
	p := listen(t, guestWorld(t))
	for head, want := range map[string]int{
		"GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n":                421,
		"GET http://localhost/health HTTP/1.1\r\nHost: evil.example\r\n":                204,
		"GET http://8000-ib.localhost/ HTTP/1.1\r\nHost: 8000-ia.localhost\r\n":         403, // its ports are private
		"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n":                       404,
		"TRACE /health HTTP/1.1\r\nHost: localhost\r\n":                                 405,
		"GET /health HTTP/1.1\r\nHost: localhost\r\nX-HTTP-Method-Override: DELETE\r\n": 204,
		"GET /health HTTP/1.1\r\n":                                                      400,
		"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: b\rc\r\n":                      400,
	} {
		_, answer := p.raw(t, head+"\r\n")
		res, err := http.ReadResponse(answer, nil)
		if err != nil {
			t.Errorf("%q: %v", head, err)
			continue
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%q = %s, want %d", head, res.Status, want)
		}
	}
}

// TestKeysInDisguiseAreNotTold: a guest gets none of ours, however many come and
// however they are written.
func TestKeysInDisguiseAreNotTold(t *testing.T) {
	guest := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = r.Header.Write(w) }))
	t.Cleanup(guest.Close)
	f := guestWorld(t)
	f.dialPort = func(ctx context.Context, _ string, _ uint16) (duplex.Conn, error) {
		return dialTCP(ctx, guest.Listener)
	}
	p := listen(t, f)
	key := p.key(t, auth.Key{Team: "a", Scope: auth.Operate})
	for _, headers := range []string{
		"X-Api-Key: theirs\r\nX-Api-Key: " + key + "\r\n", "Authorization: bearer " + key + "\r\n", "Authorization: Bearer  " + key + "\r\n",
		"X-Api-Key: " + key + " \r\nConnection: x-api-key\r\n",
	} {
		_, answer := p.raw(t, "GET / HTTP/1.1\r\nHost: 8000-ia.localhost\r\n"+headers+"\r\n")
		res, err := http.ReadResponse(answer, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 || strings.Contains(string(b), key) {
			t.Errorf("%q: %s, %v:\n%s", headers, res.Status, err, b)
		}
	}
}

// TestBrowsersGetPages: a person who followed a link into a sandbox reads why
// there is nothing, in words that can do nothing.
func TestBrowsersGetPages(t *testing.T) {
	f := guestWorld(t)
	reach := f.dialPort
	f.dialPort = func(ctx context.Context, id string, port uint16) (duplex.Conn, error) {
		if id == "ipaused" {
			return nil, fault.New(fault.WrongState, "sandbox %s is paused", id)
		}
		return reach(ctx, id, port)
	}
	p := listen(t, f)
	navigation := []string{"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "User-Agent", "Mozilla/5.0"}
	for host, want := range map[string]struct {
		status int
		text   string
	}{
		"8001-ia.localhost":      {502, "<p>The sandbox is running but port is not open</p>\n<p>Sandbox ia, port 8001</p>"},
		"8000-inone.localhost":   {502, "<p>The sandbox was not found</p>\n<p>Sandbox inone</p>"},
		"8000-ipaused.localhost": {502, "<p>The sandbox was not found</p>\n<p>Sandbox ipaused</p>"},
		"8000-ib.localhost":      {403, "<h1>403 Forbidden</h1>\n<p>the ports of this sandbox are private"},
	} {
		res := p.ask(t, "GET", "/<script>", "", append(navigation, "Host", host)...)
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != want.status || !strings.Contains(string(b), want.text) || strings.Contains(string(b), "<script>") {
			t.Errorf("%s = %d %s, %v", host, res.StatusCode, b, err)
		}
		if got := res.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
			t.Errorf("%s: type %q", host, got)
		}
		if got := res.Header.Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none';") || strings.Contains(got, "unsafe") {
			t.Errorf("%s: policy %q", host, got)
		}
	}
	// What a script in such a page fetches, and an SDK, is told in JSON.
	for _, headers := range [][]string{{"Accept", "*/*", "User-Agent", "Mozilla/5.0"}, {"Accept", "application/json"}, {}} {
		res := p.ask(t, "GET", "/", "", append(headers, "Host", "8001-ia.localhost")...)
		if got := res.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%v: type %q", headers, got)
		}
	}
}

// TestStrangersLeaveRoom: whoever needs no key to reach a guest's page cannot take
// all connections from those who have one.
func TestStrangersLeaveRoom(t *testing.T) {
	f, kill := echoing(t)
	f.strangers = 1
	p := listen(t, f)
	key := p.key(t, auth.Key{Team: "a", Scope: auth.Operate})
	host := []string{"Host", "8000-ia.localhost"}
	_, held := upgraded(t, p, "Host: 8000-ia.localhost\r\n")
	if status, body, _ := p.said(t, "GET", "/", "", host...); status != 429 {
		t.Errorf("another stranger: %d %s", status, body)
	}
	upgraded(t, p, "Host: 8000-ia.localhost\r\nX-API-Key: "+key+"\r\n")
	kill()
	if rest, _ := io.ReadAll(held); len(rest) > 0 {
		t.Errorf("more came: %q", rest)
	}
	for { // its place is free a moment after its end
		if status, _, _ := p.said(t, "GET", "/", "", host...); status != 429 {
			break
		}
	}
}
