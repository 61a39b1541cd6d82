package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/entry"
	"bulkhead/internal/server/gate"
	"bulkhead/internal/server/quota"
	"bulkhead/internal/server/token"
	"bulkhead/test/leak"
)

// keyStore keeps keys in memory.
type keyStore map[string]auth.Key

func (s keyStore) SaveKey(_ context.Context, k auth.Key) error {
	s[k.Name] = k
	return nil
}
func (s keyStore) DeleteKey(_ context.Context, name string) error {
	delete(s, name)
	return nil
}
func (s keyStore) Keys(context.Context) ([]auth.Key, error) {
	return slices.Collect(maps.Values(s)), nil
}

// port is a server at a TCP port and the keys to it.
type port struct {
	*http.Client
	addr string
	keys *auth.Keys
	seed token.Seed
}

// listen serves f on a TCP port until the test ends. It has sandboxes of two
// teams: ia and ib.
func listen(t *testing.T, f fake) *port {
	t.Helper()
	leak.Check(t)
	keys, err := auth.Open(t.Context(), keyStore{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if f.resolve == nil {
		f.resolve = func(ctx context.Context, ref string) (string, error) {
			for team, id := range map[string]string{"a": "ia", "b": "ib"} {
				if (ref == id || ref == "box-"+team) && auth.From(ctx).Sees(team, id) {
					return id, nil
				}
			}
			return "", fault.New(fault.NotFound, "sandbox %q not found", ref)
		}
	}
	seed, err := token.New([]byte("of a test"))
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(server.Options{
		E2B:       f.e2b(),
		Sandboxes: f.fakeSandboxes, Power: f.fakeSandboxes, Snapshots: f.fakeSnapshots, Templates: f.fakeTemplates,
		Ports: f.fakePorts, Ingress: f.fakePorts, Parcels: reader{}, Tokens: seed, Events: f.events, Info: f.info, Log: slog.New(slog.DiscardHandler),
	})
	if f.impatient {
		s.Impatient()
	}
	if f.hurried {
		s.Hurry()
	}
	if f.strangers > 0 {
		s.Shun(f.strangers)
	}
	l, err := entry.Plain(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate.Gate{Keys: keys, Domain: "bulkhead.example", Origins: []string{"https://console.example"}, Quota: f.quota, Log: slog.New(slog.DiscardHandler)}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx, server.Door{Listener: l, Guard: g.Guard}) }()
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &port{Client: &http.Client{Transport: transport}, addr: l.Addr().String(), keys: keys, seed: seed}
}

// key makes a key.
func (p *port) key(t *testing.T, k auth.Key) string {
	t.Helper()
	if k.Name == "" {
		k.Name = fmt.Sprintf("key-%d", len(p.keys.List()))
	}
	_, value, err := p.keys.Create(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// ask sends a request; headers come in pairs, "Host" among them. The answer's
// body is open.
func (p *port) ask(t *testing.T, method, path, body string, headers ...string) *http.Response {
	t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.addr+path, content)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	res, err := p.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// said is the answer to a request, and its error if it is one.
func (p *port) said(t *testing.T, method, path, body string, headers ...string) (int, string, client.Error) {
	t.Helper()
	res := p.ask(t, method, path, body, headers...)
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e client.Error
	_ = json.Unmarshal(b, &e)
	return res.StatusCode, string(b), e
}

func TestKeysDecideWhatIsAnswered(t *testing.T) {
	var f fake
	f.fakeSandboxes.list = func(context.Context) ([]client.Sandbox, error) { return nil, nil }
	f.get = func(_ context.Context, ref string) (client.Sandbox, error) {
		return client.Sandbox{ID: ref, State: client.StateRunning}, nil
	}
	f.fakeSandboxes.remove = func(context.Context, string) error { return nil }
	f.create = func(ctx context.Context, _ client.CreateRequest) (client.Sandbox, error) {
		return client.Sandbox{ID: "ic", Team: auth.From(ctx).Home()}, nil
	}
	f.fork = func(context.Context, string, client.ForkRequest) ([]client.Sandbox, []error, error) {
		return nil, nil, nil
	}
	f.fakeTemplates.list = func(context.Context) ([]client.Template, error) { return nil, nil }
	f.fakeTemplates.remove = func(context.Context, string) error { return nil }
	p := listen(t, f)
	reader := p.key(t, auth.Key{Team: "a", Scope: auth.Read})
	operator := p.key(t, auth.Key{Team: "a", Scope: auth.Operate})
	admin := p.key(t, auth.Key{Team: "a", Scope: auth.Admin})
	owner := p.key(t, auth.Key{Team: auth.DefaultTeam, Scope: auth.Admin})
	agent := p.key(t, auth.Key{Team: "a", Scope: auth.Operate, Sandbox: "ia"})
	for name, tt := range map[string]struct {
		key, op string
		want    int
	}{
		"nobody lists":                        {"", "GET /v2/sandboxes", 401},
		"nobody is told whether a sandbox is": {"", "GET /sandboxes/none", 401},
		"nobody removes":                      {"", "DELETE /sandboxes/ia", 401},
		"anybody may ask whether it lives":    {"", "GET /health", 204},
		"a wrong key lists":                   {"e2b_" + strings.Repeat("0", 40), "GET /v2/sandboxes", 401},
		"something else lists":                {"secret", "GET /v2/sandboxes", 401},
		"read lists":                          {reader, "GET /v2/sandboxes", 200},
		"read looks":                          {reader, "GET /sandboxes/box-a", 200},
		"read does not remove":                {reader, "DELETE /sandboxes/ia", 403},
		"operate removes":                     {operator, "DELETE /sandboxes/ia", 204},
		"operate creates":                     {operator, "POST /v2/sandboxes", 201},
		"another team's is not there":         {admin, "GET /sandboxes/ib", 404},
		"another team's name is not there":    {admin, "GET /sandboxes/box-b", 404},
		"another team's is not removed":       {admin, "DELETE /sandboxes/ib", 404},
		"operate does not change the policy":  {operator, "PUT /sandboxes/ia/egress", 403},
		"an agent looks at its machine":       {agent, "GET /sandboxes/ia", 200},
		"an agent changes not what it may":    {agent, "POST /sandboxes/ia/egress/rules", 403},
		"an agent approves nothing":           {agent, "POST /sandboxes/ia/egress/answer", 403},
		"an agent creates none":               {agent, "POST /v2/sandboxes", 403},
		"an agent forks none":                 {agent, "POST /sandboxes/ia/fork", 403},
		"an agent sees no other":              {agent, "GET /sandboxes/ib", 404},
		"another team removes no template":    {admin, "DELETE /templates/base", 403},
		"the host's owner does":               {owner, "DELETE /templates/base", 204},
		"another team is shown no secrets":    {admin, "GET /secrets", 403},
		"an id that leads elsewhere is no id": {admin, "GET /sandboxes/..%2F..%2Fib", 400},
		"and neither does one in disguise":    {admin, "GET /sandboxes/ib%00", 400},
		"a route that is none":                {admin, "GET /sandboxes/ia/secrets", 404},
	} {
		t.Run(name, func(t *testing.T) {
			method, path, _ := strings.Cut(tt.op, " ")
			body := ""
			if method == "POST" || method == "PUT" {
				body = `{"templateID":"base"}`
			}
			for _, header := range [][]string{{"X-API-Key", tt.key}, {"Authorization", "Bearer " + tt.key}} {
				got, text, e := p.said(t, method, path, body, header...)
				if got != tt.want || (got >= 400 && (e.Code != got || e.RequestID == "")) {
					t.Errorf("%s with %s = %d %s, want %d", tt.op, header[0], got, text, tt.want)
				}
			}
		})
	}
}

func TestTooManyRequestsAreToldWhenToComeBack(t *testing.T) {
	var f fake
	f.fakeSandboxes.list = func(context.Context) ([]client.Sandbox, error) { return nil, nil }
	now := time.Now()
	f.quota = quota.New(2, func() time.Time { return now })
	p := listen(t, f)
	key, other := p.key(t, auth.Key{Team: "a", Scope: auth.Read}), p.key(t, auth.Key{Team: "a", Scope: auth.Read})
	for i, want := range []int{200, 200, 429} {
		res := p.ask(t, "GET", "/v2/sandboxes", "", "X-API-Key", key)
		limit, left, reset := res.Header.Get("RateLimit-Limit"), res.Header.Get("RateLimit-Remaining"), res.Header.Get("RateLimit-Reset")
		if res.StatusCode != want || limit != "2" || left != fmt.Sprint(max(0, 1-i)) || reset != "1" {
			t.Errorf("request %d = %d with %s of %s left, in %s", i+1, res.StatusCode, left, limit, reset)
		}
		if after := res.Header.Get("Retry-After"); (want == 429) != (after == "1") {
			t.Errorf("request %d: retry after %q", i+1, after)
		}
	}
	if res := p.ask(t, "GET", "/v2/sandboxes", "", "X-API-Key", other); res.StatusCode != 200 {
		t.Errorf("another key = %d, want 200", res.StatusCode)
	}
	now = now.Add(time.Second)
	if res := p.ask(t, "GET", "/v2/sandboxes", "", "X-API-Key", key); res.StatusCode != 200 {
		t.Errorf("a second later = %d, want 200", res.StatusCode)
	}
}

// TestStrangersHoldNoConnections: there are so many, for all.
func TestStrangersHoldNoConnections(t *testing.T) {
	f := guestWorld(t)
	f.fakeSandboxes.list = func(context.Context) ([]client.Sandbox, error) { return nil, nil }
	p := listen(t, f)
	key := p.key(t, auth.Key{Team: "a", Scope: auth.Read})
	for name, tt := range map[string]struct {
		path    string
		headers []string
		closed  bool
	}{
		"without a key":     {"/v2/sandboxes", nil, true},
		"with a wrong key":  {"/v2/sandboxes", []string{"X-API-Key", "e2b_" + strings.Repeat("0", 40)}, true},
		"who ask if it is":  {"/health", nil, true},
		"by a foreign name": {"/health", []string{"Host", "evil.example"}, true},
		"to no sandbox":     {"/health", to("inone", "49983"), true},
		"but with a key":    {"/v2/sandboxes", []string{"X-API-Key", key}, false},
	} {
		if res := p.ask(t, "GET", tt.path, "", tt.headers...); res.Close != tt.closed {
			t.Errorf("%s: %s, closed: %v, want %v", name, res.Status, res.Close, tt.closed)
		}
	}
}

func TestOthersSeeNoInternalErrors(t *testing.T) {
	var f fake
	f.fakeSandboxes.list = func(context.Context) ([]client.Sandbox, error) {
		return nil, fmt.Errorf("open /var/lib/bulkhead/x: %w", errBoom)
	}
	f.get = func(context.Context, string) (client.Sandbox, error) { panic("at /var/lib/bulkhead") }
	p := listen(t, f)
	key := p.key(t, auth.Key{Team: "a", Scope: auth.Admin})
	for _, path := range []string{"/v2/sandboxes", "/sandboxes/ia"} {
		status, body, e := p.said(t, "GET", path, "", "X-API-Key", key)
		if status != 500 || e.Message != "internal error" || e.RequestID == "" || strings.Contains(body, "/var/lib") {
			t.Errorf("GET %s = %d %s", path, status, body)
		}
	}
}

// TestRevokedKeyEndsItsStreams takes the key away from one who follows events.
func TestRevokedKeyEndsItsStreams(t *testing.T) {
	var f fake
	f.events = func(ctx context.Context, _ server.EventQuery) iter.Seq2[client.Event, error] {
		return func(yield func(client.Event, error) bool) {
			if yield(client.Event{Seq: 1}, nil) {
				<-ctx.Done()
			}
		}
	}
	p := listen(t, f)
	key := p.key(t, auth.Key{Name: "stolen", Team: "a", Scope: auth.Read})
	res := p.ask(t, "GET", "/events?follow=1", "", "X-API-Key", key)
	lines := bufio.NewReader(res.Body)
	if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, `{"seq":1,`) {
		t.Fatalf("first event = %q, %v", line, err)
	}
	if err := p.keys.Revoke(t.Context(), "stolen"); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(lines); len(rest) > 0 {
		t.Errorf("more came: %q", rest)
	}
	if status, body, _ := p.said(t, "GET", "/events", "", "X-API-Key", key); status != 401 {
		t.Errorf("another request = %d %s, want 401", status, body)
	}
}

func TestPagesCannotDriveTheHost(t *testing.T) {
	var f fake
	f.fakeSandboxes.list = func(context.Context) ([]client.Sandbox, error) { return nil, nil }
	f.fakeSandboxes.remove = func(context.Context, string) error { return nil }
	p := listen(t, f)
	key := p.key(t, auth.Key{Team: "a", Scope: auth.Admin})
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version", "13"}
	for name, tt := range map[string]struct {
		op      string
		headers []string
		want    int
	}{
		"by its address":                           {"GET /v2/sandboxes", nil, 200},
		"by localhost":                             {"GET /v2/sandboxes", []string{"Host", "localhost:3000"}, 200},
		"by an address of IPv6":                    {"GET /v2/sandboxes", []string{"Host", "[::1]:3000"}, 200},
		"by its domain":                            {"GET /v2/sandboxes", []string{"Host", "bulkhead.example"}, 200},
		"by a name below it":                       {"GET /v2/sandboxes", []string{"Host", "API.Bulkhead.example:8443"}, 200},
		"by another's name":                        {"GET /v2/sandboxes", []string{"Host", "evil.example"}, 421},
		"by a name that ends like its own":         {"GET /v2/sandboxes", []string{"Host", "evilbulkhead.example"}, 421},
		"by a name that begins like its own":       {"GET /v2/sandboxes", []string{"Host", "localhost.evil.example"}, 421},
		"by a name that is none":                   {"GET /v2/sandboxes", []string{"Host", "a@b"}, 421},
		"by its name with a dot behind it":         {"GET /v2/sandboxes", []string{"Host", "localhost.:3000"}, 200},
		"by its name with two":                     {"GET /v2/sandboxes", []string{"Host", "localhost..:3000"}, 421},
		"by its name as a user's":                  {"GET /v2/sandboxes", []string{"Host", "localhost:3000@evil.example"}, 421},
		"by a name that looks like its own":        {"GET /v2/sandboxes", []string{"Host", "xn--localhst-fcb"}, 421},
		"by an address written as a number":        {"GET /v2/sandboxes", []string{"Host", "2130706433"}, 421},
		"a page of its own":                        {"DELETE /sandboxes/ia", []string{"Origin", "http://" + p.addr}, 204},
		"a foreign page reads nothing it is shown": {"GET /v2/sandboxes", []string{"Origin", "https://evil.example"}, 200},
		"a foreign page changes nothing":           {"DELETE /sandboxes/ia", []string{"Origin", "https://evil.example"}, 403},
		"a page without an origin neither":         {"DELETE /sandboxes/ia", []string{"Origin", "null"}, 403},
		"a page of a sandbox neither":              {"DELETE /sandboxes/ia", []string{"Host", "localhost", "Origin", "http://3000-ib.localhost"}, 403},
		"a foreign page without an origin":         {"DELETE /sandboxes/ia", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"a foreign page in a guest's name":         {"POST /process.Process/Start", []string{"Host", "49983-ia.localhost", "Origin", "https://evil.example"}, 403},
		"a page that is allowed":                   {"DELETE /sandboxes/ia", []string{"Origin", "https://console.example"}, 204},
		"a foreign page's WebSocket":               {"GET /v2/sandboxes", append([]string{"Origin", "https://evil.example"}, upgrade...), 403},
	} {
		t.Run(name, func(t *testing.T) {
			method, path, _ := strings.Cut(tt.op, " ")
			res := p.ask(t, method, path, "", append([]string{"X-API-Key", key}, tt.headers...)...)
			if res.StatusCode != tt.want {
				b, _ := io.ReadAll(res.Body)
				t.Errorf("%s %v = %d %s, want %d", tt.op, tt.headers, res.StatusCode, b, tt.want)
			}
			if got := res.Header.Get("Access-Control-Allow-Origin"); got != "" && got != "https://console.example" {
				t.Errorf("origin %s may read answers", got)
			}
		})
	}
}

func TestPreflightIsForAllowedOriginsAlone(t *testing.T) {
	p := listen(t, fake{})
	for origin, want := range map[string]string{"https://console.example": "https://console.example", "https://evil.example": ""} {
		res := p.ask(t, "OPTIONS", "/v2/sandboxes", "", "Origin", origin,
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-api-key")
		if got := res.Header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%s: allowed %q, want %q", origin, got, want)
		}
	}
}

// TestSlowBodyIsRefused sends the beginning of a body and no more.
func TestSlowBodyIsRefused(t *testing.T) {
	p := listen(t, fake{impatient: true})
	key := p.key(t, auth.Key{Team: "a", Scope: auth.Operate})
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "POST /v2/sandboxes HTTP/1.1\r\nHost: localhost\r\nX-API-Key: %s\r\nContent-Length: 100\r\n\r\n{", key); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); res.StatusCode != 504 || !strings.Contains(string(b), "took longer than") {
		t.Errorf("answer = %d %s, %v", res.StatusCode, b, err)
	}
}

// TestRefusalDoesNotWaitForABody: who may not ask is told at once.
func TestRefusalDoesNotWaitForABody(t *testing.T) {
	p := listen(t, fake{})
	for _, head := range []string{
		"POST /v2/sandboxes HTTP/1.1\r\nHost: localhost\r\n", "POST /sandboxes/ia/ports/80 HTTP/1.1\r\nHost: localhost\r\n",
		"POST /v2/sandboxes HTTP/1.1\r\nHost: evil.example\r\n", "POST /x HTTP/1.1\r\nHost: localhost\r\nE2b-Sandbox-Id: ia\r\nE2b-Sandbox-Port: 49983\r\n",
	} {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 401 && res.StatusCode != 421 {
			t.Errorf("%q: %s", head, res.Status)
		}
	}
}

// TestOversizedHeadersAreRefused: those of a request that nobody has a key for.
func TestOversizedHeadersAreRefused(t *testing.T) {
	p := listen(t, fake{})
	res := p.ask(t, "GET", "/health", "", "X-Large", strings.Repeat("x", 128<<10))
	if got, want := res.StatusCode, http.StatusRequestHeaderFieldsTooLarge; got != want || !res.Close {
		t.Errorf("status = %d, closed: %v; want %d and the end", got, res.Close, want)
	}
}

// TestSmuggledRequestsAreOne sends what two servers could read as one request
// or as two.
func TestSmuggledRequestsAreOne(t *testing.T) {
	var f fake
	f.fakeSandboxes.list = func(context.Context) ([]client.Sandbox, error) { return nil, nil }
	f.fakeSandboxes.remove = func(context.Context, string) error {
		t.Error("the smuggled request was answered")
		return nil
	}
	p := listen(t, f)
	key := p.key(t, auth.Key{Team: "a", Scope: auth.Admin})
	hidden := "DELETE /sandboxes/ia HTTP/1.1\r\nHost: localhost\r\nX-API-Key: " + key + "\r\n\r\n"
	for name, head := range map[string]string{
		"two lengths":            "Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
		"a coding that is none":  "Transfer-Encoding: xchunked\r\n\r\n",
		"a space before a colon": "Content-Length : 0\r\n\r\n",
		"a folded header":        "X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two hosts":              "Host: localhost\r\n\r\n",
		"a bare line feed":       "X-A: b\nHost: evil\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = io.WriteString(c, "POST /health HTTP/1.1\r\nHost: localhost\r\n"+head+hidden) // may be cut
			answers := bufio.NewReader(c)
			res, err := http.ReadResponse(answers, nil)
			if err != nil {
				return // cut
			}
			if res.StatusCode < 400 || !res.Close && res.StatusCode == 400 {
				t.Errorf("answer = %s, want a refusal and the end", res.Status)
			}
		})
	}
}
