package ports_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bulkhead/internal/guestd/ports"
)

// listen answers one connection on an address, and returns its port.
func listen(t *testing.T, address string, answer func(*net.TCPConn)) int {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		answer(conn.(*net.TCPConn))
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).Port
}

func connect(t *testing.T, path string, body io.Reader) *http.Response {
	t.Helper()
	s := httptest.NewServer(ports.Handler())
	t.Cleanup(s.Close)
	resp, err := http.Post(s.URL+path, "", body)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// Each direction ends on its own: an answer may come after all was sent, and
// begin before.
func TestBothDirections(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		port := listen(t, address, func(c *net.TCPConn) {
			io.WriteString(c, "hello ")
			all, err := io.ReadAll(c)
			fmt.Fprintf(c, "got %s %v", all, err)
		})
		in, out := io.Pipe()
		resp := connect(t, fmt.Sprint(ports.Path, port), in)
		hello := make([]byte, 6)
		if _, err := io.ReadFull(resp.Body, hello); err != nil || string(hello) != "hello " {
			t.Fatalf("%s: %q, %v", address, hello, err)
		}
		io.WriteString(out, "this")
		out.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "got this <nil>" {
			t.Errorf("%s: %q, %v", address, b, err)
		}
	}
}

// What is cut does not look as if it had ended; neither waits for a sender
// that is silent.
func TestACutIsSeen(t *testing.T) {
	for _, cut := range []bool{true, false} {
		port := listen(t, "127.0.0.1:0", func(c *net.TCPConn) {
			io.ReadFull(c, make([]byte, 1)) // one that is cut at once may look as if nobody had listened
			io.WriteString(c, "half")
			if cut {
				c.SetLinger(0)
			}
		})
		in, out := io.Pipe()
		defer out.Close()
		go io.WriteString(out, "x")
		resp := connect(t, fmt.Sprint(ports.Path, port), in)
		if b, err := io.ReadAll(resp.Body); (err != nil) != cut {
			t.Errorf("cut %v: heard %q and %v", cut, b, err)
		}
	}
}

// The end of one connection is not that of the next.
func TestOneAfterAnother(t *testing.T) {
	s := httptest.NewServer(ports.Handler())
	defer s.Close()
	for i := range 50 {
		port := listen(t, "127.0.0.1:0", func(c *net.TCPConn) {
			all, err := io.ReadAll(c)
			fmt.Fprintf(c, "got %s %v", all, err)
		})
		resp, err := http.Post(fmt.Sprint(s.URL, ports.Path, port), "", struct{ io.Reader }{strings.NewReader("this")})
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "got this <nil>" {
			t.Errorf("connection %d: %q, %v", i, b, err)
		}
		resp.Body.Close()
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	for path, want := range map[string]int{
		fmt.Sprint(ports.Path, port): http.StatusBadGateway,
		ports.Path + "0":             http.StatusBadRequest,
		ports.Path + "65536":         http.StatusBadRequest,
		ports.Path + "80/..":         http.StatusBadRequest,
		ports.Path:                   http.StatusBadRequest,
	} {
		in, out := io.Pipe() // a sender that is silent gets an answer too
		if got := connect(t, path, in).StatusCode; got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
		out.Close()
	}
}
