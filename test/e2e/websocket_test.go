package e2e_test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// echo is a server of WebSockets in the guest: it repeats messages, and closes
// with a code of its own when it is told to leave.
const echo = `
import base64, hashlib, socket, struct, threading

def frame(op, d):
    n = len(d)
    if n < 126:
        return bytes([0x80 | op, n]) + d
    if n < 65536:
        return bytes([0x80 | op, 126]) + struct.pack(">H", n) + d
    return bytes([0x80 | op, 127]) + struct.pack(">Q", n) + d

def need(f, n):
    d = f.read(n)
    if len(d) < n:
        raise EOFError
    return d

def serve(c):
    f = c.makefile("rb")
    key = b""
    while line := f.readline().strip():
        k, _, v = line.partition(b":")
        if k.lower() == b"sec-websocket-key":
            key = v.strip()
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    while True:
        a, b = need(f, 2)
        op, n = a & 15, b & 127
        if n == 126:
            n = struct.unpack(">H", need(f, 2))[0]
        elif n == 127:
            n = struct.unpack(">Q", need(f, 8))[0]
        mask, d = need(f, 4), need(f, n)
        d = bytes(x ^ mask[i & 3] for i, x in enumerate(d))
        if op == 8:
            c.sendall(frame(8, d))
            return
        if d == b"leave":
            c.sendall(frame(8, struct.pack(">H", 4001) + b"as asked"))
            f.read()
            return
        c.sendall(frame(op, d))

s = socket.create_server(("127.0.0.1", 8765))
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
`

// socket opens a WebSocket into the sandbox, by its name in the domain or by
// headers.
func (g *gated) socket(t *testing.T, byName bool) *websocket.Conn {
	t.Helper()
	url, o := strings.Replace(g.plain, "http", "ws", 1), &websocket.DialOptions{HTTPHeader: http.Header{}}
	if byName {
		url, o.HTTPClient = "wss://8765-"+g.id+".bulkhead.test", &g.clients
		o.HTTPHeader.Set("Origin", "https://elsewhere.example") // whom a service lets in is its own business
	} else {
		o.HTTPHeader.Set("E2b-Sandbox-Id", g.id)
		o.HTTPHeader.Set("E2b-Sandbox-Port", "8765")
	}
	c, _, err := websocket.Dial(t.Context(), url+"/talk?a=b", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() }) // it may be closed already
	c.SetReadLimit(1 << 20)
	return c
}

// repeated says something and has it repeated.
func repeated(t *testing.T, c *websocket.Conn, kind websocket.MessageType, text []byte) {
	t.Helper()
	if err := c.Write(t.Context(), kind, text); err != nil {
		t.Fatal(err)
	}
	if got, b, err := c.Read(t.Context()); err != nil || got != kind || !bytes.Equal(b, text) {
		t.Fatalf("got %d bytes of kind %v, %v, want %d", len(b), got, err, len(text))
	}
}

// ended waits for the end of a WebSocket, and returns the code that the other end
// closed it with; -1 for one that was cut.
func ended(t *testing.T, c *websocket.Conn) websocket.StatusCode {
	t.Helper()
	_, b, err := c.Read(t.Context())
	if err == nil {
		t.Fatalf("more came: %q", b)
	}
	return websocket.CloseStatus(err)
}

// WebSockets reach what serves in a sandbox, both ways, with the codes that they
// are closed with; one that asks a machine that sleeps wakes it, and what is cut
// is cut.
func TestWebSocketsIntoGuests(t *testing.T) {
	g := newGated(t)
	h := g.With(t)
	if r := h.CLIWith(echo, "exec", "-i", "served", "--", "sh", "-c", `cat > /root/echo.py
systemd-run --quiet --collect python3 /root/echo.py
until ss -ltn | grep -q :8765; do sleep 0.1; done`); r.Code != 0 {
		t.Fatalf("start the server: %+v", r)
	}
	for name, byName := range map[string]bool{"by headers": false, "by name": true} {
		t.Run(name, func(t *testing.T) {
			c := g.socket(t, byName)
			repeated(t, c, websocket.MessageText, []byte("hello ä"))
			repeated(t, c, websocket.MessageBinary, bytes.Repeat([]byte{0, 0xff, 1}, 50_000))
			if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
				t.Errorf("closed from here: %v", err)
			}
			c = g.socket(t, byName)
			if err := c.Write(t.Context(), websocket.MessageText, []byte("leave")); err != nil {
				t.Fatal(err)
			}
			_, _, err := c.Read(t.Context())
			var closed websocket.CloseError
			if !errors.As(err, &closed) || closed.Code != 4001 || closed.Reason != "as asked" {
				t.Errorf("closed from there: %v", err)
			}
		})
	}
	c := g.socket(t, true)
	repeated(t, c, websocket.MessageText, []byte("before"))
	h.Must("pause", "served")
	if code := ended(t, c); code != -1 {
		t.Errorf("the pause closed it with %d, want a cut", code)
	}
	c = g.socket(t, true)
	repeated(t, c, websocket.MessageText, []byte("woken"))
	if s := g.box.Inspect(); s.State != "running" {
		t.Errorf("it is %s", s.State)
	}
	h.Must("rm", "-f", "served")
	if code := ended(t, c); code != -1 {
		t.Errorf("the end closed it with %d, want a cut", code)
	}
}
