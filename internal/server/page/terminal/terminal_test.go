package terminal_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/user"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"bulkhead/internal/fault"
	"bulkhead/internal/guestd/process"
	"bulkhead/internal/server/page/terminal"
	"bulkhead/test/leak"
)

// lab is a room whose one sandbox is an agent in this process.
type lab struct {
	*terminal.Room
	url string
	// guest is how the agent is reached.
	guest *httptest.Server
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if u, err := user.Current(); err != nil || u.Uid != "0" {
		t.Skip("a shell as root needs root")
	}
	home := t.TempDir() // what a login shell does on this host is none of the test's business
	agent := process.New(process.Options{Workdir: func() string { return home }, Env: func() map[string]string { return map[string]string{"HOME": home} }})
	path, h := agent.Handler()
	mux := http.NewServeMux()
	mux.Handle(path, h)
	guest := httptest.NewServer(mux)
	l := &lab{guest: guest, Room: &terminal.Room{Transport: func(context.Context, string) (http.RoundTripper, error) {
		return toGuest(guest.Listener.Addr().String()), nil
	}}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := l.Serve(w, r, "ia"); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	l.url = srv.URL
	t.Cleanup(func() {
		l.Close()
		srv.Close()
		agent.Close()
		guest.Close()
	})
	return l
}

// toGuest sends all requests to an address.
type toGuest string

func (g toGuest) RoundTrip(r *http.Request) (*http.Response, error) {
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, string(g))
	}}
	return t.RoundTrip(r)
}

// browser is a connection to a shell.
type browser struct {
	t    *testing.T
	conn *websocket.Conn
	// out is what was printed; shell and seen are what a browser keeps to come
	// back.
	out   strings.Builder
	shell string
	seen  int64
	fresh bool
	ended string
	err   string
}

type note struct {
	From  int64  `json:"from"`
	Fresh bool   `json:"fresh"`
	Shell string `json:"shell"`
	Ended string `json:"ended"`
	Error string `json:"error"`
}

func (l *lab) open(t *testing.T, q url.Values) *browser {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), l.url+"?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	t.Cleanup(func() { conn.CloseNow() })
	return &browser{t: t, conn: conn}
}

func (b *browser) read() {
	b.t.Helper()
	kind, data, err := b.conn.Read(b.t.Context())
	if err != nil {
		b.t.Fatalf("after %.500q: %v", b.out.String(), err)
	}
	if kind == websocket.MessageBinary {
		b.out.Write(data)
		b.seen += int64(len(data))
		return
	}
	var n note
	if err := json.Unmarshal(data, &n); err != nil {
		b.t.Fatal(err)
	}
	b.ended, b.err = n.Ended, n.Error
	b.shell, b.fresh, b.seen = n.Shell, n.Fresh, n.From
}

// until reads until the output has text.
func (b *browser) until(text string) {
	b.t.Helper()
	for !strings.Contains(b.out.String(), text) {
		b.read()
	}
}

func (b *browser) write(text string) {
	b.t.Helper()
	if err := b.conn.Write(b.t.Context(), websocket.MessageBinary, []byte(text)); err != nil {
		b.t.Fatal(err)
	}
}

func TestShellOutlivesItsConnection(t *testing.T) {
	leak.Check(t)
	l := newLab(t)
	b := l.open(t, url.Values{"shell": {"console"}})
	b.write("x=kept; echo begin-$((1+1))\n")
	b.until("begin-2")
	seen, shell := b.seen, b.shell
	b.conn.CloseNow()

	again := l.open(t, url.Values{"shell": {"console"}, "of": {shell}, "seen": {urlNumber(seen)}})
	again.write("echo again-$x\n")
	again.until("again-kept")
	if again.fresh || strings.Contains(again.out.String(), "begin-2") {
		t.Errorf("what was seen comes again: %q", again.out.String())
	}

	other := l.open(t, url.Values{"shell": {"console"}})
	other.until("again-kept")
	if !strings.Contains(other.out.String(), "begin-2") || other.shell != shell {
		t.Errorf("another browser sees %q", other.out.String())
	}
	other.write("exit 3\n")
	for again.ended == "" {
		again.read()
	}
	if again.ended != "exit status 3" {
		t.Errorf("it ended with %q", again.ended)
	}
}

// The daemon's end is not the shell's: the next one finds it by its name.
func TestShellOutlivesTheRoom(t *testing.T) {
	leak.Check(t)
	l := newLab(t)
	b := l.open(t, url.Values{"shell": {"console"}})
	b.write("x=kept; echo begin-$((1+1))\n")
	b.until("begin-2")
	b.conn.CloseNow()
	l.Close()
	l.Room = &terminal.Room{Transport: l.Transport}

	again := l.open(t, url.Values{"shell": {"console"}, "of": {b.shell}, "seen": {urlNumber(b.seen)}})
	again.write("echo again-$x\n")
	again.until("again-kept")
	if again.shell == b.shell || !again.fresh {
		t.Error("the browser is not told that what it has seen is another stream's")
	}
}

// A machine that is paused or rolled back cuts the connection. That is told, and
// who comes again finds the shell of the machine that there is then.
func TestCutConnectionIsTold(t *testing.T) {
	leak.Check(t)
	l := newLab(t)
	b := l.open(t, url.Values{"shell": {"console"}})
	b.write("x=kept; echo begin-$((1+1))\n")
	b.until("begin-2")
	l.guest.CloseClientConnections()
	for b.err == "" {
		b.read()
	}
	if _, _, err := b.conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("then comes %v", err)
	}
	again := l.open(t, url.Values{"shell": {"console"}, "of": {b.shell}, "seen": {urlNumber(b.seen)}})
	again.write("echo again-$x\n")
	again.until("again-kept")
}

func TestMachineThatIsGoneIsTold(t *testing.T) {
	leak.Check(t)
	l := newLab(t)
	l.Room = &terminal.Room{Transport: func(context.Context, string) (http.RoundTripper, error) {
		return nil, fault.New(fault.WrongState, "sandbox otter is rolling_back")
	}}
	b := l.open(t, url.Values{"shell": {"console"}})
	if b.read(); !strings.Contains(b.err, "rolling_back") {
		t.Errorf("it says %q", b.err)
	}
}

func TestTerminalHasASize(t *testing.T) {
	leak.Check(t)
	l := newLab(t)
	b := l.open(t, url.Values{"shell": {"console"}, "cols": {"91"}, "rows": {"31"}})
	b.write("stty size\n")
	b.until("31 91")
	if err := b.conn.Write(t.Context(), websocket.MessageText, []byte(`{"cols": 101, "rows": 41}`)); err != nil {
		t.Fatal(err)
	}
	b.write("stty size\n")
	b.until("41 101")
	// Sizes that no terminal has are brought within bounds, and no message is a
	// way to end the connection.
	for _, odd := range []string{`{"cols": 4000000000, "rows": 0}`, `{`, `[]`, `{"cols": -1}`} {
		if err := b.conn.Write(t.Context(), websocket.MessageText, []byte(odd)); err != nil {
			t.Fatal(err)
		}
	}
	b.write("stty size\n")
	b.until("2 1000")
}

func TestNamesOfShellsAreChecked(t *testing.T) {
	l := newLab(t)
	for _, name := range []string{"", "A", "a b", "../x", strings.Repeat("a", 33)} {
		_, resp, err := websocket.Dial(t.Context(), l.url+"?"+url.Values{"shell": {name}}.Encode(), nil)
		if err == nil || resp == nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A page of another host cannot open a terminal, whatever its visitor may do.
func TestForeignPagesGetNoTerminal(t *testing.T) {
	l := newLab(t)
	_, resp, err := websocket.Dial(t.Context(), l.url+"?shell=console", &websocket.DialOptions{
		HTTPHeader: http.Header{"Origin": {"https://evil.example"}},
	})
	if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("it is answered %v, %v", resp, err)
	}
}

func TestShellsAreBounded(t *testing.T) {
	leak.Check(t)
	l := newLab(t)
	for i := range 16 {
		l.open(t, url.Values{"shell": {"s" + urlNumber(int64(i))}}).read()
	}
	conn, _, err := websocket.Dial(t.Context(), l.url+"?shell=more", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if _, said, err := conn.Read(t.Context()); err != nil || !strings.Contains(string(said), "has 16 shells open") {
		t.Errorf("the seventeenth shell says %s, %v", said, err)
	}
}

// Who reads slowly misses what is in the middle, is told so, and sees the end.
func TestOutputIsBounded(t *testing.T) {
	leak.Check(t)
	l := newLab(t)
	b := l.open(t, url.Values{"shell": {"console"}})
	b.write("seq 1 200000; echo the-$((1+1))-end\n")
	b.until("the-2-end")
	late := l.open(t, url.Values{"shell": {"console"}})
	late.until("the-2-end")
	if n := late.out.Len(); n > 600<<10 {
		t.Errorf("%d bytes are kept", n)
	}
	if late.seen < 1<<20 {
		t.Errorf("places are counted from the beginning: %d", late.seen)
	}
}

func urlNumber(n int64) string { b, _ := json.Marshal(n); return string(b) }
