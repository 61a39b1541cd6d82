package e2e_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"bulkhead/client"
	"bulkhead/internal/server/token"

	"github.com/coder/websocket"
)

// abused is a gated host with two sandboxes that have nothing to do with each
// other; the second one's ports are private.
type abused struct {
	*gated
	key   string
	other client.Sandbox
}

// Whoever means harm, at every door of a real host.
func TestAbuse(t *testing.T) {
	g := newGated(t)
	a := &abused{gated: g, key: strings.TrimSpace(g.Must("key", "create", "own", "--scope", "admin"))}
	status, body := g.ask(t, "POST", g.plain+"/v2/sandboxes", `{"templateID":"base","name":"other","forever":true,"secure":true,"network":{"allowPublicTraffic":false}}`,
		"X-API-Key", a.key, "Content-Type", "application/json")
	if err := json.Unmarshal([]byte(body), &a.other); status != 201 || err != nil {
		t.Fatalf("create: %d %s", status, body)
	}
	t.Run("requests", func(t *testing.T) { testBadRequests(t, a) })
	t.Run("tokens", func(t *testing.T) { testForeignTokens(t, a) })
	t.Run("revoked", func(t *testing.T) { testRevokedInMidStream(t, a) })
	t.Run("text", func(t *testing.T) { testGuestsText(t, a) })
	t.Run("archives", func(t *testing.T) { testGuestsArchives(t, a) })
}

// testBadRequests sends what is no good request, as bytes, to the real doors.
func testBadRequests(t *testing.T, a *abused) {
	auth := "Host: localhost\r\nX-API-Key: " + a.key + "\r\n"
	hidden := "DELETE /sandboxes/served HTTP/1.1\r\n" + auth + "\r\n"
	upgrade := "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	agent := "Host: localhost\r\nE2b-Sandbox-Id: " + a.id + "\r\nE2b-Sandbox-Port: 49983\r\n"
	for name, tt := range map[string]struct {
		text string
		want int
	}{
		"a foreign name":                  {"GET /v2/sandboxes HTTP/1.1\r\nHost: evil.example\r\nX-API-Key: " + a.key + "\r\n\r\n", 421},
		"a foreign name in the target":    {"GET http://evil.example/v2/sandboxes HTTP/1.1\r\n" + auth + "\r\n", 421},
		"two names":                       {"GET /v2/sandboxes HTTP/1.1\r\nHost: evil.example\r\n" + auth + "\r\n", 400},
		"a foreign page":                  {"DELETE /sandboxes/served HTTP/1.1\r\n" + auth + "Origin: https://evil.example\r\n\r\n", 403},
		"a page without an origin":        {"DELETE /sandboxes/served HTTP/1.1\r\n" + auth + "Origin: null\r\n\r\n", 403},
		"a foreign page's question":       {"OPTIONS /sandboxes/served HTTP/1.1\r\n" + auth + "Origin: https://evil.example\r\nAccess-Control-Request-Method: DELETE\r\n\r\n", 405},
		"a foreign page's terminal":       {"GET /sandboxes/served/terminal?shell=x HTTP/1.1\r\n" + auth + upgrade + "Origin: https://evil.example\r\n\r\n", 403},
		"a foreign page's agent":          {"POST /process.Process/List HTTP/1.1\r\n" + agent + "X-API-Key: " + a.key + "\r\nOrigin: https://evil.example\r\nContent-Length: 2\r\n\r\n{}", 403},
		"an id that leads elsewhere":      {"GET /sandboxes/..%2f..%2fetc HTTP/1.1\r\n" + auth + "\r\n", 400},
		"a path that does":                {"GET /sandboxes/../../etc/passwd HTTP/1.1\r\n" + auth + "\r\n", 307},
		"a snapshot that does":            {"DELETE /sandboxes/served/snapshots/..%2fx HTTP/1.1\r\n" + auth + "\r\n", 400},
		"a sandbox header that does":      {"GET / HTTP/1.1\r\n" + strings.Replace(agent, a.id, "../"+a.id, 1) + "X-API-Key: " + a.key + "\r\n\r\n", 400},
		"bad JSON":                        {"POST /v2/sandboxes HTTP/1.1\r\n" + auth + "Content-Length: 1\r\n\r\n{", 400},
		"JSON of another shape":           {"POST /v2/sandboxes HTTP/1.1\r\n" + auth + "Content-Length: 2\r\n\r\n[]", 400},
		"deep JSON":                       {"POST /v2/sandboxes HTTP/1.1\r\n" + auth + "Content-Length: 40000\r\n\r\n" + strings.Repeat("[", 40000), 400},
		"a body larger than any":          {"POST /v2/sandboxes HTTP/1.1\r\n" + auth + "Content-Length: 99999999999\r\n\r\n" + strings.Repeat(" ", 16<<20+1), 400},
		"a length and a coding":           {"GET /health HTTP/1.1\r\n" + auth + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, 204},
		"a length and a coding, to guest": {"GET /health HTTP/1.1\r\n" + agent + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, 204},
		"a coding that is none":           {"GET /health HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked, identity\r\n\r\n" + hidden, 501},
		"a folded header":                 {"GET /health HTTP/1.1\r\n" + auth + "X-A: b\r\n c: d\r\n\r\n", 204}, // one header, as RFC 9112 allows
		"the host's part of the agent":    {"POST //bulkhead.machine.v1.Machine/Freeze HTTP/1.1\r\n" + agent + "X-API-Key: " + a.key + "\r\nContent-Length: 0\r\n\r\n", 404},
	} {
		t.Run(name, func(t *testing.T) {
			res, rest := exchange(t, "tcp", strings.TrimPrefix(a.plain, "http://"), tt.text)
			if res.StatusCode != tt.want {
				t.Errorf("answer = %s, want %d", res.Status, tt.want)
			}
			if bytes.Contains(rest, []byte("HTTP/1.1")) {
				t.Errorf("there is another answer: %s", rest)
			}
			for h := range res.Header {
				if strings.HasPrefix(h, "Access-Control-") {
					t.Errorf("%s: %s", h, res.Header.Get(h))
				}
			}
		})
	}
	t.Run("by the socket", func(t *testing.T) {
		for text, want := range map[string]int{
			"GET /sandboxes/..%2f..%2fetc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":                                     400,
			"POST /v2/sandboxes HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\n{":                         400,
			"GET /v2/sandboxes HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n":                                                          400,
			"GET /sandboxes/served HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-A: " + strings.Repeat("a", 99999) + "\r\n\r\n": 431,
		} {
			if res, _ := exchange(t, "unix", a.Socket(), text); res.StatusCode != want {
				t.Errorf("%.60q = %s, want %d", text, res.Status, want)
			}
		}
	})
	if s := a.box.Inspect(); s.State != "running" {
		t.Errorf("after all that it is %s", s.State)
	}
}

// exchange sends bytes and returns the answer, and what comes behind its headers
// until the connection ends.
func exchange(t *testing.T, network, address, text string) (*http.Response, []byte) {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { _, _ = io.WriteString(c, text) }() // it may be refused before all is sent
	answer := bufio.NewReader(c)
	res, err := http.ReadResponse(answer, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if !res.Close { // nothing else ends it
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}
	rest, _ := io.ReadAll(answer) // it may be reset
	return res, rest
}

// testForeignTokens tries what is good for one sandbox at another.
func testForeignTokens(t *testing.T, a *abused) {
	access, traffic := a.tokens.Access(a.id), a.tokens.Traffic(a.id)
	agent := []string{"E2b-Sandbox-Id", a.other.ID, "E2b-Sandbox-Port", "49983", "X-Access-Token", access, "Content-Type", "application/json"}
	port := []string{"E2b-Sandbox-Id", a.other.ID, "E2b-Sandbox-Port", "8000"}
	byName := "https://49983-" + a.other.ID + ".bulkhead.test"
	signed := url.Values{"path": {"/etc/hostname"}, "signature": {token.Sign(token.File{Path: "/etc/hostname"}, access)}}
	agentKey := strings.TrimSpace(a.Must("key", "create", "agent", "--sandbox", "served"))
	defer a.Must("key", "revoke", "agent")
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"run_command","arguments":{"sandbox":"other","command":"hostname"}}}`
	for name, tt := range map[string]struct {
		method, url, body string
		headers           []string
		status            int
	}{
		"a file":                {"GET", a.plain + "/files?path=/etc/hostname", "", agent, 401},
		"writing a file":        {"POST", a.plain + "/files?path=/root/x", "x", agent, 401},
		"a program":             {"POST", a.plain + "/process.Process/List", "{}", agent, 401},
		"a folder":              {"POST", byName + "/filesystem.Filesystem/ListDir", `{"path":"/"}`, agent[4:], 401},
		"a signed URL":          {"GET", byName + "/files?" + signed.Encode(), "", nil, 401},
		"a private port":        {"GET", a.plain + "/", "", append(port, "E2b-Traffic-Access-Token", traffic), 403},
		"the agent by traffic":  {"GET", a.plain + "/files?path=/etc/hostname", "", append(agent[:4:4], "X-Access-Token", a.tokens.Traffic(a.other.ID)), 401},
		"the API by a token":    {"GET", a.plain + "/sandboxes/" + a.id, "", []string{"X-API-Key", access}, 401},
		"a key of one":          {"GET", a.plain + "/sandboxes/other", "", []string{"X-API-Key", agentKey}, 404},
		"its agent by that key": {"POST", a.plain + "/process.Process/List", "{}", append(agent[:4:4], "X-API-Key", agentKey, "Content-Type", "application/json"), 502},
		"its port by that key":  {"GET", a.plain + "/", "", append(port, "X-API-Key", agentKey), 502},
		"a tool by that key": {"POST", a.plain + "/mcp", call, []string{"X-API-Key", agentKey, "Content-Type", "application/json",
			"Accept", "application/json, text/event-stream"}, 200},
	} {
		status, body := a.ask(t, tt.method, tt.url, tt.body, tt.headers...)
		if status != tt.status {
			t.Errorf("%s: %d %s, want %d", name, status, body, tt.status)
		}
		if status == 200 && !strings.Contains(body, "not found") || strings.Contains(body, "other\\n") {
			t.Errorf("%s: %s", name, body)
		}
	}
	if _, body := a.ask(t, "GET", a.plain+"/files?"+signed.Encode(), ""); strings.TrimSpace(body) != "served" {
		t.Errorf("what is signed for one reads %q", body)
	}
}

// testRevokedInMidStream takes a key away while everything that streams does.
func testRevokedInMidStream(t *testing.T, a *abused) {
	key := strings.TrimSpace(a.Must("key", "create", "stolen", "--scope", "admin"))
	a.box.Sh(`echo begun > /dev/kmsg # a restored machine has printed nothing yet
systemd-run --quiet --collect python3 -c '
import socket
s = socket.create_server(("0.0.0.0", 8003))
while True:
    c, _ = s.accept()
    c.recv(4096)
    c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
'
until ss -ltn | grep -q :8003; do sleep 0.1; done`)
	to := func(port string) []string { return []string{"E2b-Sandbox-Id", a.id, "E2b-Sandbox-Port", port} }
	program := `{"process":{"cmd":"sh","args":["-c","echo begun; exec sleep 12345"]}}`
	frame := string([]byte{0, 0, 0, 0, byte(len(program))}) + program // Connect's envelope
	open := map[string]*http.Response{}
	for name, tt := range map[string]struct {
		method, path, body string
		headers            []string
	}{
		"events":              {"GET", "/events?follow=1", "", nil},
		"events for browsers": {"GET", "/events?follow=1", "", []string{"Accept", "text/event-stream"}},
		"the overview":        {"GET", "/live", "", nil},
		"a console":           {"GET", "/sandboxes/served/console?follow=1&tail=100", "", nil},
		"a program":           {"POST", "/process.Process/Start", frame, append(to("49983"), "Content-Type", "application/connect+json")},
		"a port":              {"GET", "/", "", to("8003")},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tt.method, a.plain+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-API-Key", key)
		for i := 0; i < len(tt.headers); i += 2 {
			r.Header.Set(tt.headers[i], tt.headers[i+1])
		}
		res, err := a.clients.Do(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer res.Body.Close()
		if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil || res.StatusCode != 200 {
			t.Fatalf("%s: %s, %v", name, res.Status, err)
		}
		open[name] = res
	}
	terminal, _, err := websocket.Dial(t.Context(), strings.Replace(a.plain, "http", "ws", 1)+"/sandboxes/served/terminal?shell=stolen",
		&websocket.DialOptions{HTTPHeader: http.Header{"X-Api-Key": {key}}})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.CloseNow()
	if _, _, err := terminal.Read(t.Context()); err != nil {
		t.Fatal(err)
	}

	a.With(t).Must("key", "revoke", "stolen")
	for name, res := range open {
		if _, err := io.Copy(io.Discard, res.Body); err == nil && (name == "a program" || name == "a port") {
			t.Errorf("%s ended well, as if that were all", name)
		}
	}
	for {
		if _, _, err := terminal.Read(t.Context()); err != nil {
			break
		}
	}
	if status, body := a.ask(t, "GET", a.plain+"/v2/sandboxes", "", "X-API-Key", key); status != 401 {
		t.Errorf("another request: %d %s", status, body)
	}
}

// testGuestsText has a guest put what steers a terminal wherever its operator
// looks.
func testGuestsText(t *testing.T, a *abused) {
	h := a.With(t)
	h.Must("snapshot", "served", "--name", "clean")
	const evil = `e\033]0;t\007\033[2J\302\2331m\342\200\256\rx`
	a.box.Sh(`evil=$(printf '` + evil + `')
mkdir -p "/root/$evil"; echo x > "/root/$evil/$evil"
printf '` + evil + `\n' > /dev/console
cp /bin/sleep "/tmp/$evil"; "/tmp/$evil" 1000 >/dev/null 2>&1 &
printf "GET / HTTP/1.1\r\nHost: $evil\r\n\r\n" | timeout 2 bash -c 'exec 3<>/dev/tcp/pypi.org/80; cat >&3; cat <&3' || true
curl -m 2 -s "http://refused.example/$evil" -A "$evil" || true
hostname "$evil" 2>/dev/null || true`)
	dir := t.TempDir()
	for _, args := range [][]string{
		{"ls"}, {"inspect", "served"}, {"timeline", "served"}, {"diff", "served", "clean"}, {"events", "--sandbox", "served"},
		{"egress", "log", "served"}, {"egress", "show", "served"}, {"blast-radius", "served"}, {"template", "ls"}, {"key", "ls"},
		{"cp", "served:/root/none", dir}, {"cp", "served:/root", dir}, {"ssh-config", "--dir", dir}, {"rollback", "served", "none\x1b[2J"},
	} {
		for _, form := range []string{"text", "json"} {
			r := h.CLI(append([]string{args[0], "--output", form}, args[1:]...)...)
			for _, c := range r.Stdout + r.Stderr {
				if c == utf8.RuneError || c != '\n' && c != '\t' && !unicode.IsGraphic(c) {
					t.Errorf("%v -o %s prints %q:\n%.600q", args, form, c, r.Stdout+r.Stderr)
					break
				}
			}
		}
	}
}

// testGuestsArchives copies from a guest whose tar is not tar, and looks for what
// it laid down elsewhere.
func testGuestsArchives(t *testing.T, a *abused) {
	h := a.With(t)
	for name, entries := range map[string][]tar.Header{
		"names that climb":         {{Name: "x/../../climbed", Typeflag: tar.TypeReg}, {Name: "../../climbed", Typeflag: tar.TypeReg}},
		"a name from the top":      {{Name: "/climbed", Typeflag: tar.TypeReg}, {Name: "x//climbed", Typeflag: tar.TypeReg}},
		"a link, and through it":   {{Name: "x/l", Linkname: "../..", Typeflag: tar.TypeSymlink}, {Name: "x/l/climbed", Typeflag: tar.TypeReg}},
		"a link to a folder above": {{Name: "x/d/", Typeflag: tar.TypeDir}, {Name: "x/d/l", Linkname: "../../..", Typeflag: tar.TypeSymlink}},
		"a hard link outwards":     {{Name: "x/h", Linkname: "x/../../secret", Typeflag: tar.TypeLink}, {Name: "x/h", Typeflag: tar.TypeReg}},
		"a hard link to a link":    {{Name: "x/l", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink}, {Name: "x/h", Linkname: "x/l", Typeflag: tar.TypeLink}},
		"devices and pipes":        {{Name: "x/n", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, {Name: "x/p", Typeflag: tar.TypeFifo}},
		"what was there before":    {{Name: "x/before", Typeflag: tar.TypeReg}},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, e := range append([]tar.Header{{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}}, entries...) {
				e.Mode = 0o777
				if e.Typeflag == tar.TypeReg {
					e.Size = 4
				}
				if err := w.WriteHeader(&e); err != nil {
					t.Fatal(err)
				}
				if e.Size > 0 {
					if _, err := w.Write([]byte("evil")); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			a.box.Sh(fmt.Sprintf(`mkdir -p /root/x /usr/local/bin; printf '#!/bin/sh\nbase64 -d /root/evil\n' > /usr/local/bin/tar; chmod +x /usr/local/bin/tar
echo %s > /root/evil; test "$(command -v tar)" = /usr/local/bin/tar`, base64.StdEncoding.EncodeToString(b.Bytes())))
			dir := t.TempDir()
			inner := filepath.Join(dir, "a", "in")
			if err := os.MkdirAll(filepath.Join(inner, "x"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("ours"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(dir, "secret"), filepath.Join(inner, "x", "before")); err != nil {
				t.Fatal(err)
			}
			r := h.CLI("cp", "served:/root/x", inner) // that it fails is as good as that it leaves out
			if b, err := os.ReadFile(filepath.Join(inner, "x", "before")); name == "what was there before" && string(b) != "evil" {
				t.Errorf("the archive does not arrive: %q, %v, %+v", b, err, r)
			}
			var found []string
			err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				if err == nil && !d.IsDir() && !strings.HasPrefix(path, filepath.Join(inner, "x")+"/") {
					found = append(found, path)
				}
				if err == nil && d.Type()&(os.ModeDevice|os.ModeNamedPipe) != 0 {
					t.Errorf("%s is %v", path, d.Type())
				}
				if to, lerr := os.Readlink(path); lerr == nil && filepath.IsAbs(to) && to != filepath.Join(dir, "secret") {
					t.Errorf("%s leads to %s", path, to)
				}
				return err
			})
			if err != nil || len(found) != 1 {
				t.Errorf("outside of the target there is %v, %v", found, err)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "secret")); string(b) != "ours" {
				t.Errorf("a file of before is %q, %v", b, err)
			}
		})
	}
}
