package proxy_test

import (
	"io"
	"strings"
	"testing"
)

const (
	wish = "GET /ws HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	yes  = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)

// A connection becomes a WebSocket once the host agrees.
func TestWebSocketPasses(t *testing.T) {
	for _, port := range []uint16{80, 8080} {
		b := newBench(t, port)
		guest := b.connect()
		b.say(guest, wish)
		host := b.accept()
		b.hear(host, wish)
		b.say(host, "HTTP/1.1 103 Early Hints\r\n\r\n"+yes+"\x81\x05first")
		b.hear(guest, "HTTP/1.1 103 Early Hints\r\n\r\n"+yes+"\x81\x05first")
		b.say(guest, "\x81\x85frames")
		b.hear(host, "\x81\x85frames")
		b.say(host, "\x81\x02ok")
		b.hear(guest, "\x81\x02ok")
		guest.Close()
		if rest, err := io.ReadAll(host); err != nil || len(rest) > 0 {
			t.Errorf("after the end: %q, %v", rest, err)
		}
		host.Close()
		if c := b.last(); c.Reason != "" || c.Up != int64(len(wish)+8) {
			t.Errorf("recorded %+v", c)
		}
	}
}

// While the host has not agreed, what follows are requests, and for it.
func TestRefusedWebSocket(t *testing.T) {
	for name, no := range map[string]string{
		"no":               "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n",
		"another protocol": strings.Replace(yes, "websocket", "h2c", 1),
		"no HTTP":          "101 yes\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 80)
			guest := b.connect()
			b.say(guest, wish+"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n")
			host := b.accept()
			b.hear(host, wish)
			b.say(host, no)
			b.hear(guest, no)
			if rest, err := io.ReadAll(host); err == nil && len(rest) > 0 {
				t.Errorf("arrived %q", rest)
			}
			if c := b.last(); !strings.Contains(c.Reason, "another host") {
				t.Errorf("recorded %+v", c)
			}
		})
	}
}

// A host that answers and hangs up at once is heard.
func TestRefusedWebSocketIsHeard(t *testing.T) {
	b := newBench(t, 80)
	const no = "HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\n\r\nno"
	for range 100 {
		guest := b.connect()
		b.say(guest, wish)
		host := b.accept()
		b.hear(host, wish)
		b.say(host, no)
		host.Close()
		if all, err := io.ReadAll(guest); err != nil || string(all) != no {
			t.Fatalf("the guest hears %q, %v", all, err)
		}
		guest.Close()
	}
}

// Other protocols are not offered to the host, which answers as it always does.
func TestOffersAreLeftOut(t *testing.T) {
	b := newBench(t, 80)
	guest := b.connect()
	b.say(guest, "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\nX: y\r\n\r\n")
	host := b.accept()
	b.hear(host, "GET / HTTP/1.1\r\nHost: a.example\r\nX: y\r\n\r\n")
}
