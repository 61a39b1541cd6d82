package sniff_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"

	"bulkhead/internal/egress/sniff"
)

// hello is what a real client begins with.
func hello(t testing.TB, name string) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	go tls.Client(theirs, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
	b := make([]byte, 16<<10)
	n, err := ours.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	theirs.Close()
	return b[:n]
}

// split puts the message of a hello into records of at most n bytes.
func split(hello []byte, n int) (out []byte) {
	for body := hello[5:]; len(body) > 0; {
		some := min(n, len(body))
		out = append(out, 22, 3, 1, byte(some>>8), byte(some))
		out = append(out, body[:some]...)
		body = body[some:]
	}
	return out
}

func TestClientHello(t *testing.T) {
	real := hello(t, "Allowed.Example")
	for name, b := range map[string][]byte{
		"in one record": real, "in records of a hundred": split(real, 100), "in records of one": split(real, 1),
		"with bytes after it": append(bytes.Clone(real), "more"...),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sniff.ClientHello(b)
			if err != nil || got.Name != "allowed.example" || got.Hidden {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	t.Run("without a name", func(t *testing.T) {
		if got, err := sniff.ClientHello(hello(t, "")); err != nil || got.Name != "" {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("each beginning wants more", func(t *testing.T) {
		for i := range real {
			if _, err := sniff.ClientHello(real[:i]); !errors.Is(err, sniff.ErrMore) {
				t.Fatalf("after %d bytes: %v", i, err)
			}
		}
	})
	ech := withExtension(real, 0xfe0d, []byte{0})
	t.Run("with a hidden name", func(t *testing.T) {
		if got, err := sniff.ClientHello(ech); err != nil || !got.Hidden {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	for name, b := range map[string][]byte{
		"no TLS":                   []byte("GET / HTTP/1.1\r\n"),
		"another version":          append([]byte{22, 9}, real[2:]...),
		"another message":          append(append([]byte{}, real[:5]...), append([]byte{2}, real[6:]...)...),
		"an endless one":           append([]byte{22, 3, 1, 0, 4, 1, 255, 255, 255}, make([]byte, 10)...),
		"an empty record":          {22, 3, 1, 0, 0},
		"another record in it":     append(append(split(real, 100)[:105], 21, 3, 1, 0, 2), 1, 0),
		"an extension twice":       withExtension(ech, 0xfe0d, []byte{0}),
		"two lists of names":       withExtension(real, 0, []byte{0, 4, 0, 0, 1, 'x'}),
		"an extension that is cut": withCutExtension(real),
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			if got, err := sniff.ClientHello(b); err == nil || errors.Is(err, sniff.ErrMore) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// withExtension adds an extension at the end of a hello in one record.
func withExtension(hello []byte, kind uint16, body []byte) []byte {
	b := append(bytes.Clone(hello), byte(kind>>8), byte(kind), byte(len(body)>>8), byte(len(body)))
	b = append(b, body...)
	return grow(b, 4+len(body))
}

// withCutExtension adds two bytes that are no extension.
func withCutExtension(hello []byte) []byte { return grow(append(bytes.Clone(hello), 1, 2), 2) }

// grow adds n to the lengths of record, message and extensions.
func grow(b []byte, n int) []byte {
	add := func(at int) {
		v := int(b[at])<<8 | int(b[at+1])
		v += n
		b[at], b[at+1] = byte(v>>8), byte(v)
	}
	add(3)
	add(7)
	at := 9 + 2 + 32
	at += 1 + int(b[at])
	at += 2 + int(b[at])<<8 + int(b[at+1])
	at += 1 + int(b[at])
	add(at)
	return b
}

func FuzzClientHello(f *testing.F) {
	real := hello(f, "allowed.example")
	f.Add(real)
	f.Add(split(real, 7))
	f.Add(withExtension(real, 0xfe0d, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := sniff.ClientHello(b)
		if err != nil {
			return
		}
		if got.Name != sniff.Name(got.Name) || len(got.Name) > len(b) {
			t.Errorf("name %q", got.Name)
		}
		if again, err := sniff.ClientHello(append(bytes.Clone(b), 0)); err != nil || again != got {
			t.Errorf("with a byte more: %+v, %v after %+v", again, err, got)
		}
	})
}

func TestRequestHead(t *testing.T) {
	for _, tt := range []struct {
		name, head string
		want       sniff.Head
	}{
		{"a page", "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", sniff.Head{Host: "a.example"}},
		{"a port and a dot", "GET /x?y HTTP/1.0\r\nhost:A.Example.:8080\r\n\r\n", sniff.Head{Host: "a.example"}},
		{"a body", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 12\r\n\r\n", sniff.Head{Host: "a.example", Body: 12}},
		{"chunks", "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n", sniff.Head{Host: "a.example", Body: -1}},
		{"a whole target", "GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n", sniff.Head{Host: "a.example"}},
		{"another protocol", "GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\n\r\n", sniff.Head{Host: "a.example", Upgrade: "websocket"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Size = len(tt.head)
			if got, err := sniff.RequestHead([]byte(tt.head + "GET")); err != nil || got != tt.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
			if _, err := sniff.RequestHead([]byte(tt.head[:len(tt.head)-1])); !errors.Is(err, sniff.ErrMore) {
				t.Errorf("without its end: %v", err)
			}
		})
	}
	for name, head := range map[string]string{
		"no host":                  "GET / HTTP/1.1\r\n\r\n",
		"two hosts":                "GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n",
		"a host with a space":      "GET / HTTP/1.1\r\nHost: a.example b\r\n\r\n",
		"a host with a user":       "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
		"another host as target":   "GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"a user in the target":     "GET http://a.example@b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"a tunnel":                 "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"two lengths":              "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"a length and chunks":      "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"a length with a sign":     "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: +1\r\n\r\n",
		"another encoding":         "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"a space before the colon": "GET / HTTP/1.1\r\nHost : a.example\r\n\r\n",
		"a folded line":            "GET / HTTP/1.1\r\nHost: a.example\r\n b.example\r\n\r\n",
		"a bare line feed":         "GET / HTTP/1.1\r\nX: y\nHost: b.example\r\nHost: a.example\r\n\r\n",
		"a bare return":            "GET / HTTP/1.1\r\nX: y\rHost: b.example\r\nHost: a.example\r\n\r\n",
		"a zero byte":              "GET / HTTP/1.1\r\nX: \x00\r\nHost: a.example\r\n\r\n",
		"an empty line first":      "\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"two spaces":               "GET  / HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"HTTP/2":                   "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"an endless one":           "GET / HTTP/1.1\r\nX: " + strings.Repeat("y", sniff.MaxHead),
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			if got, err := sniff.RequestHead([]byte(head)); err == nil || errors.Is(err, sniff.ErrMore) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestWithoutUpgrade(t *testing.T) {
	const line, rest = "GET / HTTP/1.1\r\n", "Host: a.example\r\n"
	for head, want := range map[string]string{
		line + rest + "Upgrade: h2c\r\nHTTP2-Settings: AAM\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n": line + rest + "\r\n",
		line + "connection: keep-alive, upgrade\r\nUPGRADE: x\r\n" + rest + "\r\n":                         line + "connection: keep-alive\r\n" + rest + "\r\n",
		line + rest + "Upgrade:\r\n\r\n": line + rest + "\r\n",
	} {
		if h, err := sniff.RequestHead([]byte(head)); err != nil || h.Upgrade == "" {
			t.Errorf("%q: %+v, %v", head, h, err)
		}
		if got := sniff.WithoutUpgrade([]byte(head)); string(got) != want {
			t.Errorf("%q becomes %q", head, got)
		}
		if h, err := sniff.RequestHead([]byte(want)); err != nil || h.Upgrade != "" {
			t.Errorf("%q: %+v, %v", want, h, err)
		}
	}
}

func TestAnswerHead(t *testing.T) {
	const yes = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\r\n"
	if status, to, size, err := sniff.AnswerHead([]byte(yes + "x")); status != 101 || to != "websocket" || size != len(yes) || err != nil {
		t.Errorf("%d, %q, %d, %v", status, to, size, err)
	}
	if _, _, _, err := sniff.AnswerHead([]byte(yes[:len(yes)-1])); !errors.Is(err, sniff.ErrMore) {
		t.Errorf("half of it: %v", err)
	}
	for _, text := range []string{"HTTP/2 101\r\n\r\n", "HTTP/1.1 1x1 x\r\n\r\n", "HTTP/1.1 101 x\r\n y\r\n\r\n", strings.Repeat("x", sniff.MaxHead)} {
		if status, _, _, err := sniff.AnswerHead([]byte(text)); err == nil || errors.Is(err, sniff.ErrMore) {
			t.Errorf("%.40q: %d, %v", text, status, err)
		}
	}
}

func FuzzRequestHead(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: h2c\r\nConnection: close, upgrade\r\n\r\n"))
	f.Add([]byte("POST http://a.example/ HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 3\r\n\r\nabc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := sniff.RequestHead(b)
		if err != nil {
			return
		}
		if h.Size > len(b) || h.Body < -1 || h.Host == "" || strings.Count(strings.ToLower(string(b[:h.Size])), "\nhost:") != 1 {
			t.Errorf("%q: %+v", b, h)
		}
		if h.Upgrade == "" {
			return
		}
		plain := sniff.WithoutUpgrade(b[:h.Size])
		if again, err := sniff.RequestHead(plain); err != nil || again.Upgrade != "" || again.Host != h.Host || again.Body != h.Body || again.Size != len(plain) {
			t.Errorf("%q becomes %q: %+v, %v", b, plain, again, err)
		}
	})
}

func FuzzAnswerHead(f *testing.F) {
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 200\r\n\r\nbody"))
	f.Fuzz(func(t *testing.T, b []byte) {
		status, _, size, err := sniff.AnswerHead(b)
		if err != nil {
			return
		}
		if status < 100 || status > 999 || size > len(b) || !bytes.HasSuffix(b[:size], []byte("\r\n\r\n")) {
			t.Errorf("%q: %d, %d", b, status, size)
		}
	})
}

func TestChunkHead(t *testing.T) {
	for text, want := range map[string][2]int64{"0\r\n": {3, 0}, "1f\r\nabc": {4, 31}, "FFFF\r\n": {6, 65535}} {
		if size, follow, err := sniff.ChunkHead([]byte(text)); err != nil || int64(size) != want[0] || follow != want[1] {
			t.Errorf("%q: %d, %d, %v", text, size, follow, err)
		}
	}
	if _, _, err := sniff.ChunkHead([]byte("1f\r")); !errors.Is(err, sniff.ErrMore) {
		t.Errorf("half a line: %v", err)
	}
	for _, text := range []string{"\r\n", "+1\r\n", "1;x=y\r\n", " 1\r\n", "0x1\r\n", "-1\r\n", strings.Repeat("0", 30), "7fffffffffffffff1\r\n"} {
		if _, follow, err := sniff.ChunkHead([]byte(text)); err == nil || errors.Is(err, sniff.ErrMore) {
			t.Errorf("%q: %d, %v", text, follow, err)
		}
	}
}
