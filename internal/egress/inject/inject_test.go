package inject_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/internal/egress/authority"
	"bulkhead/internal/egress/inject"
	"bulkhead/test/leak"
)

const (
	host    = "api.example"
	value   = "sk-live-0123456789+/"
	masked  = "********************"
	current = inject.Prefix + "abcdefghijklmnopqrstuvwxyz234567"
	dead    = inject.Prefix + "zyxwvutsrqponmlkjihgfedcba765432"
	// patience turns a hang into a failure; nothing is measured by it.
	patience = 30 * time.Second
)

// bench is a guest, what is between, and a host.
type bench struct {
	t  *testing.T
	in net.Listener
	// root is what the guest trusts.
	root *x509.CertPool
	host *httptest.Server
	x    *inject.Exchange

	mu      sync.Mutex
	missing error
	notices []inject.Notice
	// served has how each connection ended.
	served chan error
}

// newBench has the host answer by h.
func newBench(t *testing.T, h http.HandlerFunc) *bench {
	t.Helper()
	leak.Check(t)
	own, err := authority.New(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.Cover([]string{host}); err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, root: x509.NewCertPool(), host: httptest.NewUnstartedServer(h), served: make(chan error, 100)}
	b.root.AppendCertsFromPEM(own.Root())
	world, certificate := public(t, host)
	b.host.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	b.host.EnableHTTP2 = true
	b.host.Config.ErrorLog = log.New(io.Discard, "", 0)
	b.host.StartTLS()
	t.Cleanup(b.host.Close)
	b.x = &inject.Exchange{
		Host:        host,
		Certificate: func() (*tls.Certificate, error) { return own.Leaf(host) },
		Secrets: func() ([]inject.Secret, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return []inject.Secret{
				{Name: "key", Value: value, Header: "X-Api-Key", Format: "Key {}"},
				{Name: "token", Value: "token-of-" + value, Placeholder: current},
			}, b.missing
		},
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", b.host.Listener.Addr().String())
		},
		Config: &tls.Config{RootCAs: world},
		Notice: func(n inject.Notice) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.notices = append(b.notices, n)
		},
	}
	b.listen()
	return b
}

// public makes a certificate of a name, and the pool by which it is verified.
func public(t *testing.T, name string) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	a, err := authority.New(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Cover([]string{name}); err != nil {
		t.Fatal(err)
	}
	leaf, err := a.Leaf(name)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.Root())
	return pool, *leaf
}

// listen serves what guests connect to.
func (b *bench) listen() {
	var err error
	if b.in, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := b.in.Accept()
			if err != nil {
				return
			}
			all.Go(func() { b.served <- b.x.Serve(ctx, c) })
		}
	})
	b.t.Cleanup(func() {
		cancel()
		b.in.Close()
		all.Wait()
	})
}

func (b *bench) seen(want inject.Notice) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.notices {
		if n == want {
			return true
		}
	}
	return false
}

// guest returns a client in the guest that speaks HTTP/1.1 or HTTP/2.
func (b *bench) guest(two bool) *http.Client {
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", b.in.Addr().String())
		},
		TLSClientConfig: &tls.Config{RootCAs: b.root}, ForceAttemptHTTP2: two, DisableCompression: true,
	}
	b.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// ask sends a request with headers and returns the answer and its body.
func (b *bench) ask(c *http.Client, path string, headers ...string) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), "GET", "https://"+host+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(text)
}

// each runs a test with either protocol.
func each(t *testing.T, f func(t *testing.T, two bool)) {
	for name, two := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) { f(t, two) })
	}
}

func TestInjected(t *testing.T) {
	each(t, func(t *testing.T, two bool) {
		got := make(chan *http.Request, 1)
		b := newBench(t, func(w http.ResponseWriter, r *http.Request) { got <- r })
		headers := []string{"X-Api-Key", "the guest's own", "Authorization", "Bearer " + current,
			"Range", "bytes=0-3", "Accept-Encoding", "br"}
		if !two { // HTTP/2 has no such header
			headers = append(headers, "Connection", "x-api-key")
		}
		resp, _ := b.ask(b.guest(two), "/v1/x?q=%zz;", headers...)
		if (resp.ProtoMajor == 2) != two {
			t.Errorf("the guest speaks %s", resp.Proto)
		}
		r := <-got
		for name, want := range map[string]string{
			"X-Api-Key": "Key " + value, "Authorization": "Bearer token-of-" + value, "Range": "", "Accept-Encoding": "identity",
		} {
			if got := strings.Join(r.Header.Values(name), "|"); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if r.Host != host || r.RequestURI != "/v1/x?q=%zz;" || r.ProtoMajor != 2 {
			t.Errorf("the request is for %q %q by %s", r.Host, r.RequestURI, r.Proto)
		}
		for _, name := range []string{"key", "token"} {
			if !b.seen(inject.Notice{Kind: "used", Secret: name}) {
				t.Errorf("nobody is told that %s is used", name)
			}
		}
	})
}

// Programs that know passwords only put the placeholder into credentials.
func TestBasic(t *testing.T) {
	got := make(chan string, 1)
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Authorization")
		fmt.Fprint(w, r.Header.Get("Authorization"))
	})
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("git:token-of-"+value))
	_, text := b.ask(b.guest(false), "/", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("git:"+current)))
	if got := <-got; got != want {
		t.Errorf("the host gets %q, want %q", got, want)
	}
	if text != "Basic "+strings.Repeat("*", len(want)-6) {
		t.Errorf("the guest reads %q", text)
	}
}

func TestRefused(t *testing.T) {
	each(t, func(t *testing.T, two bool) {
		b := newBench(t, func(http.ResponseWriter, *http.Request) { t.Error("the host is asked") })
		for name, tt := range map[string]struct {
			path    string
			headers []string
			status  int
			notice  inject.Notice
		}{
			"a placeholder from before":  {"/", []string{"Authorization", "Bearer " + dead}, 403, inject.Notice{Kind: "stale"}},
			"one in credentials":         {"/", []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("a:"+dead))}, 403, inject.Notice{Kind: "stale"}},
			"a placeholder in the query": {"/?key=" + current, nil, 403, inject.Notice{Kind: "refused"}},
		} {
			resp, text := b.ask(b.guest(two), tt.path, tt.headers...)
			if resp.StatusCode != tt.status || text == "" {
				t.Errorf("%s: %d, %q", name, resp.StatusCode, text)
			}
			if !b.seen(tt.notice) {
				t.Errorf("%s: nobody is told", name)
			}
		}
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+host+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "other.example"
		resp, err := b.guest(two).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("a request for another host: %d", resp.StatusCode)
		}
		b.mu.Lock()
		b.missing = errors.New("no secret is called key")
		b.mu.Unlock()
		if resp, text := b.ask(b.guest(two), "/"); resp.StatusCode != http.StatusBadGateway || !strings.Contains(text, "no secret is called key") {
			t.Errorf("without the secret: %d, %q", resp.StatusCode, text)
		}
	})
}

// Wherever the host says the secret, the guest does not hear it.
func TestEcho(t *testing.T) {
	packed := func(w http.ResponseWriter) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, "you are "+value)
		z.Close()
	}
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		text   string
	}{
		"in a header": {func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-You", r.Header.Get("X-Api-Key")) }, ""},
		"in a redirect": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "https://evil.example/?"+value)
			w.WriteHeader(302)
		}, ""},
		"in an address": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/?sk-live-0123456789%2B%2F")
			w.WriteHeader(302)
		}, ""},
		"in the body": {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "you are ", value) }, "you are " + masked},
		"packed":      {func(w http.ResponseWriter, r *http.Request) { packed(w) }, "you are " + masked},
		"in an early hint": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "<"+value+">")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
		}, ""},
		"in a trailer": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-End")
			fmt.Fprint(w, "text")
			w.(http.Flusher).Flush() // or it has a length, behind which HTTP/1.1 has no trailers
			w.Header().Set("X-End", value)
		}, "text"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, two bool) {
				b := newBench(t, tt.answer)
				resp, text := b.ask(b.guest(two), "/")
				if text != tt.text {
					t.Errorf("the guest reads %q, want %q", text, tt.text)
				}
				if all := fmt.Sprint(resp.Header, resp.Trailer); strings.Contains(all, "0123456789") {
					t.Errorf("the guest reads %s", all)
				}
				if !b.seen(inject.Notice{Kind: "echoed", Secret: "key"}) {
					t.Error("nobody is told")
				}
			})
		})
	}
}

// What cannot be searched does not pass.
func TestUnknownCoding(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "br")
		fmt.Fprint(w, "anything")
	})
	if resp, text := b.ask(b.guest(true), "/"); resp.StatusCode != http.StatusBadGateway || !strings.Contains(text, "br") {
		t.Errorf("%d, %q", resp.StatusCode, text)
	}
}

// Either side hears each piece of a stream before the next is said.
func TestStreams(t *testing.T) {
	each(t, func(t *testing.T, two bool) {
		b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).EnableFullDuplex()
			in := bufio.NewReader(r.Body)
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				fmt.Fprintf(w, "data: %s", line)
				w.(http.Flusher).Flush()
			}
		})
		body, say := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+host+"/stream", body)
		if err != nil {
			t.Fatal(err)
		}
		answered := make(chan *http.Response, 1)
		go func() {
			resp, err := b.guest(two).Do(req)
			if err != nil {
				t.Error(err)
			}
			answered <- resp
		}()
		io.WriteString(say, "0\n")
		resp := <-answered
		if resp == nil {
			return
		}
		defer resp.Body.Close()
		out := bufio.NewReader(resp.Body)
		for i := range 5 {
			if line, err := out.ReadString('\n'); line != fmt.Sprintf("data: %d\n", i) {
				t.Fatalf("piece %d is %q, %v", i, line, err)
			}
			fmt.Fprintf(say, "%d\n", i+1)
		}
		say.Close()
	})
}

// A connection may change its protocol; what then comes is searched too.
func TestUpgrade(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != "Key "+value {
			t.Errorf("the key is %q", r.Header.Get("X-Api-Key"))
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		line, _ := rw.ReadString('\n')
		fmt.Fprint(c, value+" "+line)
	})
	c, err := tls.Dial("tcp", b.in.Addr().String(), &tls.Config{RootCAs: b.root, ServerName: host})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n", host)
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the answer is %v, %v", resp, err)
	}
	fmt.Fprintln(c, "hello")
	if got, err := in.ReadString('\n'); got != masked+" hello\n" {
		t.Errorf("the guest reads %q, %v", got, err)
	}
}

// A host that is not who it must be gets nothing, and the guest hears why.
func TestUnverifiedHost(t *testing.T) {
	b := newBench(t, func(http.ResponseWriter, *http.Request) { t.Error("the host is asked") })
	b.x.Config = &tls.Config{RootCAs: x509.NewCertPool()}
	if resp, text := b.ask(b.guest(true), "/"); resp.StatusCode != http.StatusBadGateway || !strings.Contains(text, "certificate") {
		t.Errorf("%d, %q", resp.StatusCode, text)
	}
}

// A program that has its own idea of whom to trust is heard of.
func TestUntrusting(t *testing.T) {
	b := newBench(t, func(http.ResponseWriter, *http.Request) {})
	_, err := tls.Dial("tcp", b.in.Addr().String(), &tls.Config{ServerName: host, RootCAs: x509.NewCertPool()})
	if err == nil {
		t.Error("it trusts")
	}
	if err := <-b.served; !errors.Is(err, inject.ErrGuest) {
		t.Errorf("serve says %v", err)
	}
}

// Large bodies arrive whole in both directions.
func TestLarge(t *testing.T) {
	each(t, func(t *testing.T, two bool) {
		b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(w, r.Body); err != nil {
				t.Error(err)
			}
		})
		sent := bytes.Repeat([]byte("sk-live-0123456789 and more; "), 100_000)
		resp, err := b.guest(two).Post("https://"+host+"/", "text/plain", bytes.NewReader(sent))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes of %d come back, %v", len(got), len(sent), err)
		}
	})
}
