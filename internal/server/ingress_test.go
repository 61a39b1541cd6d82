package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/duplex"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/ingress"
	"bulkhead/internal/server/token"
)

// guestWorld has sandboxes ia and ib with agents that tell what they are asked,
// and a service at port 8000 of each.
func guestWorld(t *testing.T) fake {
	t.Helper()
	tell := func(who string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s %s %s", who, r.Method, r.Host, r.URL.RequestURI())
			for _, h := range []string{"X-Api-Key", "Authorization", "X-Access-Token", "E2b-Traffic-Access-Token", "X-Forwarded-Host"} {
				if v := r.Header.Get(h); v != "" {
					fmt.Fprintf(w, " %s=%s", h, v)
				}
			}
		}))
		t.Cleanup(s.Close)
		return s
	}
	agent, service := tell("agent"), tell("service")
	var f fake
	f.transport = func(context.Context, string) (http.RoundTripper, error) { return dial(t, agent.Listener), nil }
	f.ids = []string{"ia", "ib"}
	f.rules = func(_ context.Context, id string) (ingress.Rules, error) {
		switch id {
		case "ia":
			return ingress.Rules{}, nil
		case "ib":
			return ingress.Rules{Private: true, MaskHost: "app:${PORT}"}, nil
		case "ipaused":
			return ingress.Rules{Paused: true}, nil
		}
		return ingress.Rules{}, fault.New(fault.NotFound, "sandbox %q not found", id)
	}
	f.dialPort = func(ctx context.Context, id string, port uint16) (duplex.Conn, error) {
		if port != 8000 {
			return nil, fault.New(fault.Unavailable, "nothing listens on port %d of %s", port, id)
		}
		return dialTCP(ctx, service.Listener)
	}
	return f
}

func dialTCP(ctx context.Context, l net.Listener) (duplex.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func to(id, port string) []string { return []string{"E2b-Sandbox-Id", id, "E2b-Sandbox-Port", port} }

func TestWaysIntoSandboxes(t *testing.T) {
	p := listen(t, guestWorld(t))
	key := p.key(t, auth.Key{Team: "a", Scope: auth.Operate})
	reader := p.key(t, auth.Key{Team: "a", Scope: auth.Read})
	agentKey := p.key(t, auth.Key{Team: "a", Scope: auth.Operate, Sandbox: "ia"})
	a, b := p.seed.Access("ia"), p.seed.Access("ib")
	notFound := func(id string) string {
		return fmt.Sprintf(`{"sandboxId":"%s","message":"The sandbox was not found","code":502}`, id)
	}
	for name, tt := range map[string]struct {
		headers []string
		path    string
		status  int
		want    string // the beginning
	}{
		"to the agent by its token":        {append(to("ia", "49983"), "X-Access-Token", a), "/envs", 200, "agent GET " + p.addr + " /envs"},
		"to the agent by a key":            {append(to("ia", "49983"), "X-API-Key", key), "/envs", 200, "agent GET"},
		"to the agent by a name and a key": {append(to("box-a", "49983"), "X-API-Key", key), "/envs", 200, "agent GET"},
		"to the agent by a token's key":    {append(to("ia", "49983"), "X-API-Key", agentKey), "/envs", 200, "agent GET"},
		"with the token of another sandbox": {append(to("ia", "49983"), "X-Access-Token", b), "/envs", 401,
			`{"sandboxId":"ia","message":"unauthorized access, please provide a valid access token","code":401}`},
		"with no token":                    {to("ia", "49983"), "/envs", 401, `{"sandboxId":"ia","message":"unauthorized`},
		"with a traffic token":             {append(to("ia", "49983"), "X-Access-Token", p.seed.Traffic("ia")), "/envs", 401, ""},
		"with a key that only reads":       {append(to("ia", "49983"), "X-API-Key", reader), "/envs", 403, ""},
		"with a key of another team":       {append(to("ib", "49983"), "X-API-Key", key), "/envs", 502, `{"sandboxId":"ib","code":502,"message":"The sandbox was not found"`},
		"with a token's key to another":    {append(to("ib", "49983"), "X-API-Key", agentKey), "/envs", 502, ""},
		"to a snapshot without a key":      {append(to("ia@monday", "49983"), "X-Access-Token", a), "/envs", 401, ""},
		"by name without a key":            {append(to("box-a", "49983"), "X-Access-Token", a), "/envs", 502, notFound("box-a")},
		"to ask for its health":            {to("ia", "49983"), "/health", 200, "agent GET"},
		"to wake one by asking for that":   {to("ipaused", "49983"), "/health", 502, notFound("ipaused")},
		"to one that is none":              {append(to("inone", "49983"), "X-Access-Token", a), "/health", 502, notFound("inone")},
		"to a control route":               {append(to("ia", "49983"), "X-Access-Token", a), "/init", 404, `{"message":"not found","path":"/init","code":404}`},
		"to a service of the host's":       {append(to("ia", "49983"), "X-Access-Token", a), "/bulkhead.machine.v1.Machine/Freeze", 404, ""},
		"to a path of that name in a page": {to("ia", "8000"), "/init", 200, "service GET"},
		"to a port by headers":             {to("ia", "8000"), "/a?b=%zz", 200, "service GET " + p.addr + " /a?b=%zz"},
		"to a port by host name":           {[]string{"Host", "8000-ia.localhost:3000"}, "/a", 200, "service GET 8000-ia.localhost:3000 /a"},
		"to a port by the domain's":        {[]string{"Host", "8000-ia.bulkhead.example"}, "/", 200, "service"},
		"to a port by another domain":      {[]string{"Host", "8000-ia.evil.example"}, "/", 421, ""},
		"by headers under a guest's name":  {append(to("ib", "49983"), "Host", "8000-ia.localhost", "X-Access-Token", b), "/a", 200, "service"},
		"by headers under another name":    {append(to("ia", "8000"), "Host", "api.bulkhead.example"), "/a", 404, ""},
		"by headers under a fit name":      {append(to("ia", "8000"), "Host", "sandbox.bulkhead.example"), "/a", 200, "service"},
		"to a closed port": {to("ia", "8001"), "/", 502,
			`{"sandboxId":"ia","message":"The sandbox is running but port is not open","port":8001,"code":502}`},
		"with a service's own key":    {append(to("ia", "8000"), "X-API-Key", "theirs", "Authorization", "Bearer theirs"), "/", 200, "service GET " + p.addr + " / X-Api-Key=theirs Authorization=Bearer theirs"},
		"with ours, that is not told": {append(to("ia", "8000"), "X-API-Key", key, "Authorization", "Bearer "+key), "/x", 200, "service GET " + p.addr + " /x"},
		"with an agent's token":       {append(to("ia", "8000"), "X-Access-Token", a), "/x", 200, "service GET " + p.addr + " /x"},
		"with another agent's":        {append(to("ia", "8000"), "X-Access-Token", b), "/x", 200, "service GET " + p.addr + " /x"},
		"with a service's own token":  {append(to("ia", "8000"), "X-Access-Token", "theirs"), "/x", 200, "service GET " + p.addr + " /x X-Access-Token=theirs"},
		"to a private port":           {to("ib", "8000"), "/", 403, `{"sandboxId":"ib","message":"the ports of this sandbox are private`},
		"to a private port by token": {append(to("ib", "8000"), "E2b-Traffic-Access-Token", p.seed.Traffic("ib")), "/x", 200,
			"service GET app:8000 /x X-Forwarded-Host=" + p.addr},
		"to a private port by another's":     {append(to("ib", "8000"), "E2b-Traffic-Access-Token", p.seed.Traffic("ia")), "/", 403, ""},
		"to no port":                         {[]string{"E2b-Sandbox-Id", "ia"}, "/", 400, "missing header E2b-Sandbox-Port"},
		"to a port that is none":             {to("ia", "0"), "/", 400, `"0" is not a port`},
		"to a host name's port that is none": {[]string{"Host", "99999-ia.localhost"}, "/", 400, `"99999" is not a port`},
		"to an id that leads elsewhere":      {to("../ia", "8000"), "/", 400, `"../ia" is not the id`},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, _ := p.said(t, "GET", tt.path, "", tt.headers...)
			if status != tt.status || !strings.HasPrefix(body, tt.want) {
				t.Errorf("answer = %d %s\nwant     %d %s", status, body, tt.status, tt.want)
			}
			if strings.Contains(body, key) || strings.Contains(body, a) || strings.Contains(body, b) || strings.Contains(body, "Traffic-Access-Token=") {
				t.Errorf("a guest was told a key or token: %s", body)
			}
		})
	}
}

// TestSignedURLs reach files without any header.
func TestSignedURLs(t *testing.T) {
	p := listen(t, guestWorld(t))
	signed := func(f token.File, access string) string {
		q := url.Values{"path": {f.Path}, "username": {f.User}, "signature": {token.Sign(f, access)}}
		if f.Expiration != "" {
			q.Set("signature_expiration", f.Expiration)
		}
		return "/files?" + q.Encode()
	}
	later, earlier := fmt.Sprint(time.Now().Add(time.Hour).Unix()), fmt.Sprint(time.Now().Add(-time.Hour).Unix())
	a := p.seed.Access("ia")
	for name, tt := range map[string]struct {
		method, path string
		headers      []string
		status       int
		want         string
	}{
		"for ever":              {"GET", signed(token.File{Path: "a", User: "user"}, a), nil, 200, "agent GET"},
		"for an hour":           {"GET", signed(token.File{Path: "a", Expiration: later}, a), nil, 200, "agent GET"},
		"of the other sandbox":  {"GET", signed(token.File{Path: "a"}, p.seed.Access("ib")), nil, 200, "agent GET"},
		"for writing":           {"POST", signed(token.File{Path: "a", Write: true}, a), nil, 200, "agent POST"},
		"under a host name":     {"GET", signed(token.File{Path: "a"}, a), []string{"Host", "49983-ia.localhost"}, 200, "agent GET"},
		"under another's name":  {"GET", signed(token.File{Path: "a"}, a), []string{"Host", "49983-ib.localhost"}, 401, `{"sandboxId":"ib","message":"invalid signature","code":401}`},
		"an hour ago":           {"GET", signed(token.File{Path: "a", Expiration: earlier}, a), nil, 401, `{"sandboxId":"ia","message":"signature is already expired","code":401}`},
		"for reading only":      {"POST", signed(token.File{Path: "a"}, a), nil, 401, `{"message":"invalid signature","code":401}`},
		"by a token of nobody":  {"GET", signed(token.File{Path: "a"}, "x"), nil, 401, `{"message":"invalid signature","code":401}`},
		"by a path beside it":   {"GET", "/files/" + strings.TrimPrefix(signed(token.File{Path: "a"}, a), "/files"), nil, 404, ""},
		"by no signature":       {"GET", "/files?path=a", to("ia", "49983"), 401, `{"sandboxId":"ia","message":"missing signature query parameter","code":401}`},
		"and a wrong token too": {"GET", signed(token.File{Path: "a"}, a), append(to("ia", "49983"), "X-Access-Token", "x"), 401, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, _ := p.said(t, tt.method, tt.path, "", tt.headers...)
			if status != tt.status || !strings.HasPrefix(body, tt.want) {
				t.Errorf("%s %s = %d %s\nwant %d %s", tt.method, tt.path, status, body, tt.status, tt.want)
			}
		})
	}
}

// upgraded asks for another protocol and returns the connection once it has it.
func upgraded(t *testing.T, p *port, headers string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+headers+"\r\n"); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answer = %s, want an upgrade", res.Status)
	}
	return c, br
}

// echoing is a world in which port 8000 upgrades connections and echoes lines.
// killed ends the connections to it as a machine's end does.
func echoing(t *testing.T) (f fake, kill func()) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "echo "+line)
		}
	}))
	t.Cleanup(s.Close)
	f = guestWorld(t)
	conns := make(chan duplex.Conn, 8)
	f.dialPort = func(ctx context.Context, _ string, _ uint16) (duplex.Conn, error) {
		c, err := dialTCP(ctx, s.Listener)
		if err == nil {
			conns <- c
		}
		return c, err
	}
	return f, func() { (<-conns).Close() }
}

func TestWebSocketsIntoSandboxes(t *testing.T) {
	f, kill := echoing(t)
	p := listen(t, f)
	speak := func(t *testing.T, c net.Conn, br *bufio.Reader) {
		t.Helper()
		if _, err := io.WriteString(c, "hello\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := br.ReadString('\n'); line != "echo hello\n" {
			t.Fatalf("got %q, %v", line, err)
		}
	}
	t.Run("end with the machine", func(t *testing.T) {
		c, br := upgraded(t, p, "Host: 8000-ia.localhost\r\nOrigin: https://anywhere.example\r\n")
		speak(t, c, br)
		kill()
		if rest, _ := io.ReadAll(br); len(rest) > 0 {
			t.Errorf("more came: %q", rest)
		}
	})
	t.Run("end with the key that they are for", func(t *testing.T) {
		key := p.key(t, auth.Key{Name: "stolen", Team: "b", Scope: auth.Operate})
		c, br := upgraded(t, p, "Host: localhost\r\nE2b-Sandbox-Id: ib\r\nE2b-Sandbox-Port: 8000\r\nX-API-Key: "+key+"\r\n")
		speak(t, c, br)
		if err := p.keys.Revoke(t.Context(), "stolen"); err != nil {
			t.Fatal(err)
		}
		if rest, _ := io.ReadAll(br); len(rest) > 0 {
			t.Errorf("more came: %q", rest)
		}
	})
	t.Run("do not go to the agent", func(t *testing.T) {
		status, body, _ := p.said(t, "GET", "/x", "", append(to("ia", "49983"), "X-Access-Token", p.seed.Access("ia"),
			"Connection", "Upgrade", "Upgrade", "websocket")...)
		if status != 200 || !strings.HasPrefix(body, "agent GET") {
			t.Errorf("answer = %d %s, want a plain one", status, body)
		}
	})
}

// TestKeyIsTakenFromARunningProgram cuts a stream from the agent.
func TestKeyIsTakenFromARunningProgram(t *testing.T) {
	f := withGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begun\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	p := listen(t, f)
	key := p.key(t, auth.Key{Name: "stolen", Team: "a", Scope: auth.Operate})
	res := p.ask(t, "GET", "/process", "", append(to("ia", "49983"), "X-API-Key", key)...)
	lines := bufio.NewReader(res.Body)
	if line, err := lines.ReadString('\n'); line != "begun\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if err := p.keys.Revoke(t.Context(), "stolen"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(lines); err == nil || len(rest) > 0 {
		t.Errorf("the stream ended well, with %q", rest)
	}
}

// TestPortIsTriedUntilItListens: a service may be just about to.
func TestPortIsTriedUntilItListens(t *testing.T) {
	f := guestWorld(t)
	listens := f.dialPort
	tries := 0
	f.dialPort = func(ctx context.Context, id string, port uint16) (duplex.Conn, error) {
		if tries++; tries < 3 {
			port = 1
		}
		return listens(ctx, id, port)
	}
	p := listen(t, f)
	if status, body, _ := p.said(t, "GET", "/", "", to("ia", "8000")...); status != 200 || tries != 3 {
		t.Errorf("after %d tries: %d %s", tries, status, body)
	}
}
