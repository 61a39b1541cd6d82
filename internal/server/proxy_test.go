package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/proto/process"
	"bulkhead/proto/process/processconnect"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
)

// dial returns a transport to a listener, bounded as the interface demands.
func dial(t *testing.T, l net.Listener) http.RoundTripper {
	t.Helper()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, l.Addr().Network(), l.Addr().String())
		},
		MaxResponseHeaderBytes: 256 << 10,
		DisableCompression:     true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// withGuest is a daemon with one sandbox whose agent is h.
func withGuest(t *testing.T, h http.Handler) fake {
	t.Helper()
	guest := httptest.NewServer(h)
	t.Cleanup(guest.Close)
	return withTransport(dial(t, guest.Listener))
}

func withTransport(rt http.RoundTripper) fake {
	var f fake
	f.transport = func(context.Context, string) (http.RoundTripper, error) { return rt, nil }
	return f
}

// withRawGuest is a daemon with one sandbox whose agent answers every
// connection by what speak does once the request's headers have been read.
func withRawGuest(t *testing.T, speak func(net.Conn)) fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				speak(c)
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return withTransport(dial(t, l))
}

// address are the headers that send a request to the agent.
func address() []string { return []string{"E2b-Sandbox-Id", "i1", "E2b-Sandbox-Port", "49983"} }

func TestGuestSeesTheRequestAsItCame(t *testing.T) {
	var seen *http.Request
	var body string
	a := start(t, withGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen, body = r, string(b)
		w.Header().Set("X-Request-Id", "forged")
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "secret")
		w.Header().Set("Set-Cookie", "a=b")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "no such file")
	})))
	headers := append(address(), "X-Api-Key", "e2b_1", "Authorization", "Basic dXNlcjo=", "Connection", "X-Gone", "X-Gone", "1",
		"Upgrade", "h2c", "X-Forwarded-For", "1.2.3.4")
	status, answer, header := do(t, a, "PUT", "/files%2F..//x;y?path=a%2Fb&bad=%zz;c", "content", headers...)

	if status != 404 || answer != "no such file" || header.Get("Set-Cookie") != "a=b" {
		t.Errorf("answer = %d %q %v, want the guest's", status, answer, header)
	}
	if ids := header.Values("X-Request-Id"); len(ids) != 1 || ids[0] == "forged" {
		t.Errorf("request ids = %v, want ours alone", ids)
	}
	if got := header.Get("X-Hop"); got != "" {
		t.Errorf("hop-by-hop header of the guest arrived: %q", got)
	}
	if got, want := seen.RequestURI, "/files%2F..//x;y?path=a%2Fb&bad=%zz;c"; got != want {
		t.Errorf("guest sees %s, want %s", got, want)
	}
	if got, want := seen.Host, "host"; got != want || seen.Method != "PUT" || body != "content" {
		t.Errorf("guest sees %s %s with %q", seen.Method, got, body)
	}
	if got, want := seen.Header.Get("Authorization"), "Basic dXNlcjo="; got != want {
		t.Errorf("authorization = %q, want %q", got, want)
	}
	for _, h := range []string{"X-Api-Key", "X-Gone", "Upgrade", "Connection", "X-Forwarded-For"} {
		if got := seen.Header.Get(h); got != "" {
			t.Errorf("guest sees %s: %s", h, got)
		}
	}
}

func TestGuestRequestsThatDoNotArrive(t *testing.T) {
	missing := fault.New(fault.NotFound, "sandbox %q not found", "i1").Hint("bulkhead ls")
	crashed := fault.New(fault.WrongState, "sandbox web is crashed").Hint("bulkhead rollback web")
	tests := map[string]struct {
		headers []string
		path    string
		err     error
		status  int
		want    string
	}{
		"an unknown sandbox": {address(), "/health", missing, 502,
			`{"sandboxId":"i1","code":502,"message":"The sandbox was not found","error_code":"not_found","hint":"bulkhead ls"`},
		"a crashed sandbox": {address(), "/health", crashed, 502,
			`{"sandboxId":"i1","code":502,"message":"sandbox web is crashed","error_code":"wrong_state","hint":"bulkhead rollback web"`},
		"an ambiguous ref": {address(), "/health", fault.New(fault.Invalid, "prefix fits 2"), 400,
			`{"code":400,"message":"prefix fits 2","error_code":"invalid"`},
		"a broken host": {address(), "/health", errBoom, 500, `{"code":500,"message":"boom","error_code":"internal"`},
		"no port": {address()[:2], "/health", nil, 400,
			`{"code":400,"message":"missing header E2b-Sandbox-Port","error_code":"invalid"`},
		"no sandbox": {address()[2:], "/health", nil, 400,
			`{"code":400,"message":"missing header E2b-Sandbox-Id","error_code":"invalid"`},
		"a bad ref": {[]string{"E2b-Sandbox-Id", "../x", "E2b-Sandbox-Port", "49983"}, "/", nil, 400,
			`{"code":400,"message":"\"../x\" is not the id or name of a sandbox"`},
		"a bad port": {[]string{"E2b-Sandbox-Id", "i1", "E2b-Sandbox-Port", "65536"}, "/", nil, 400,
			`{"code":400,"message":"\"65536\" is not a port from 1 to 65535"`},
		"a closed port": {[]string{"E2b-Sandbox-Id", "i1", "E2b-Sandbox-Port", "8080"}, "/", nil, 502,
			`{"sandboxId":"i1","port":8080,"code":502,"message":"The sandbox is running but port is not open"`},
		"a service for the host only": {address(), "/bulkhead.machine.v1.Machine/Freeze", nil, 404,
			`{"path":"/bulkhead.machine.v1.Machine/Freeze","code":404,"message":"not found"`},
		"the same by other ways": {address(), "//a/..%2f%62ulkhead.machine.v1.Machine/Freeze", nil, 404,
			`{"path":"//a/../bulkhead.machine.v1.Machine/Freeze","code":404`},
		"the same in capitals": {address(), "/Bulkhead.machine.v1.Machine/Resume", nil, 404, `{"path":`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := withGuest(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				t.Errorf("guest sees %s", r.RequestURI)
			}))
			if tt.err != nil {
				f.transport = func(context.Context, string) (http.RoundTripper, error) { return nil, tt.err }
			}
			status, body, header := do(t, start(t, f), "POST", tt.path, "{}", tt.headers...)
			if status != tt.status || !strings.HasPrefix(body, tt.want) {
				t.Errorf("answer = %d %s\nwant     %d %s", status, body, tt.status, tt.want)
			}
			var e client.Error
			if err := json.Unmarshal([]byte(body), &e); err != nil || e.RequestID != header.Get("X-Request-Id") {
				t.Errorf("error = %+v, %v; want the request's id", e, err)
			}
		})
	}
}

// TestBodiesFlowBothWaysAtOnce answers each line of a request before the next
// is sent.
func TestBodiesFlowBothWaysAtOnce(t *testing.T) {
	a := start(t, withGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if err := control.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		if err := control.Flush(); err != nil {
			t.Error(err)
		}
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			_, _ = fmt.Fprintf(w, "you said %s\n", lines.Text())
			if err := control.Flush(); err != nil {
				t.Error(err)
			}
		}
	})))
	out, in := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://host/echo", out)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 4; i += 2 {
		r.Header.Set(address()[i], address()[i+1])
	}
	res, err := a.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	answers := bufio.NewReader(res.Body)
	for _, word := range []string{"one", "two", "three"} {
		if _, err := io.WriteString(in, word+"\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := answers.ReadString('\n'); err != nil || got != "you said "+word+"\n" {
			t.Fatalf("answer = %q, %v", got, err)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(answers); err != nil || len(rest) > 0 {
		t.Errorf("rest = %q, %v; want the end", rest, err)
	}
}

// agent is a process service that a test answers for.
type agent struct {
	processconnect.UnimplementedProcessHandler
	input chan string
}

func (a agent) Start(_ context.Context, r *connect.Request[process.StartRequest], out *connect.ServerStream[process.StartResponse]) error {
	event := func(e *process.ProcessEvent) error { return out.Send(&process.StartResponse{Event: e}) }
	if err := event(&process.ProcessEvent{Event: &process.ProcessEvent_Start{Start: &process.ProcessEvent_StartEvent{Pid: 7}}}); err != nil {
		return err
	}
	// Goes on only when the input that the client sends after the start event
	// has come, over another call.
	line := []byte(r.Msg.GetProcess().GetCmd() + " " + <-a.input)
	return event(&process.ProcessEvent{Event: &process.ProcessEvent_Data{
		Data: &process.ProcessEvent_DataEvent{Output: &process.ProcessEvent_DataEvent_Stdout{Stdout: line}},
	}})
}

func (a agent) StreamInput(_ context.Context, in *connect.ClientStream[process.StreamInputRequest]) (*connect.Response[process.StreamInputResponse], error) {
	for in.Receive() {
		a.input <- string(in.Msg().GetData().GetInput().GetStdin())
	}
	return connect.NewResponse(&process.StreamInputResponse{}), in.Err()
}

// TestConnectStreams speaks the agent's real protocol through the proxy.
func TestConnectStreams(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle(processconnect.NewProcessHandler(agent{input: make(chan string)}))
	a := start(t, withGuest(t, mux))
	addressed := connect.WithInterceptors(headerInterceptor{})
	c := processconnect.NewProcessClient(a.Client, "http://host", addressed)

	out, err := c.Start(t.Context(), connect.NewRequest(&process.StartRequest{Process: &process.ProcessConfig{Cmd: "cat"}}))
	if err != nil {
		t.Fatal(err)
	}
	if !out.Receive() || out.Msg().GetEvent().GetStart().GetPid() != 7 {
		t.Fatalf("first event = %v, %v", out.Msg(), out.Err())
	}
	in := c.StreamInput(t.Context())
	if err := in.Send(&process.StreamInputRequest{Event: &process.StreamInputRequest_Data{
		Data: &process.StreamInputRequest_DataEvent{Input: &process.ProcessInput{Input: &process.ProcessInput_Stdin{Stdin: []byte("hello")}}},
	}}); err != nil {
		t.Fatal(err)
	}
	if !out.Receive() {
		t.Fatal(out.Err())
	}
	if got, want := string(out.Msg().GetEvent().GetData().GetStdout()), "cat hello"; got != want {
		t.Errorf("output = %q, want %q", got, want)
	}
	if out.Receive() || out.Err() != nil {
		t.Errorf("end = %v, %v", out.Msg(), out.Err())
	}
	if _, err := in.CloseAndReceive(); err != nil {
		t.Error(err)
	}
	if _, err := c.List(t.Context(), connect.NewRequest(&process.ListRequest{})); connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Errorf("List = %v, want the agent's own error", err)
	}
}

// headerInterceptor addresses calls to the sandbox.
type headerInterceptor struct{}

func (headerInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		setAddress(r.Header())
		return next(ctx, r)
	}
}

func (headerInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		c := next(ctx, spec)
		setAddress(c.RequestHeader())
		return c
	}
}

func (headerInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func setAddress(h http.Header) {
	for i := 0; i < 4; i += 2 {
		h.Set(address()[i], address()[i+1])
	}
}

func TestBrokenGuestStreamIsCutHard(t *testing.T) {
	tests := map[string]func(c net.Conn){
		"in the middle of a chunk": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n9\r\nwor")
		},
		"between two chunks": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		},
		"before the length that was told": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
		},
		"with nonsense": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
		},
	}
	for name, speak := range tests {
		t.Run(name, func(t *testing.T) {
			a := start(t, withRawGuest(t, speak))
			res := get(t, a, "/", address()...)
			b, err := io.ReadAll(res.Body)
			if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(string(b), "hello") {
				t.Errorf("body = %q, %v; want hello and %v", b, err, io.ErrUnexpectedEOF)
			}
			if status, _, _ := do(t, a, "GET", "/health", ""); status != 204 {
				t.Errorf("health afterwards = %d, want 204", status)
			}
		})
	}
}

func TestHostileAnswersBecome502(t *testing.T) {
	repeat := func(line string, times int) string { return strings.Repeat(line, times) }
	tests := map[string]func(c net.Conn){
		"a status that is none": func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n") },
		"a status beyond all":   func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n") },
		"an upgrade": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
		},
		"headers too large for the proxy": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+repeat("A: "+repeat("x", 1000)+"\r\n", 100)+"\r\n")
		},
		"headers without end": func(c net.Conn) {
			for _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n"); err == nil; {
				_, err = io.WriteString(c, repeat("A: b\r\n", 1000))
			}
		},
		"informational answers without end": func(c net.Conn) {
			for err := error(nil); err == nil; {
				_, err = io.WriteString(c, repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 1000))
			}
		},
		"nonsense":         func(c net.Conn) { _, _ = io.WriteString(c, "\x1b[2Jhello\r\n\r\n") },
		"a closed channel": func(net.Conn) {},
	}
	for name, speak := range tests {
		t.Run(name, func(t *testing.T) {
			a := start(t, withRawGuest(t, speak))
			status, body, _ := do(t, a, "GET", "/health", "", address()...)
			if status != 502 || !strings.HasPrefix(body, `{"sandboxId":"i1","code":502,"message":"sandbox i1 does not answer: `) {
				t.Errorf("answer = %d %q, want 502", status, body)
			}
			if strings.ContainsAny(strings.TrimSpace(body), "\n\x1b") {
				t.Errorf("answer has what does not print: %q", body)
			}
		})
	}
}

// unanswered is the way to a guest that gives up with err.
type unanswered struct{ err error }

func (u unanswered) RoundTrip(*http.Request) (*http.Response, error) { return nil, u.err }

func TestSilentAgentIsSaidWithTheWayBack(t *testing.T) {
	silent := fault.New(fault.Unavailable, "reach sandbox web: the agent inside does not answer").Hint("bulkhead rollback web s1")
	a := start(t, withTransport(unanswered{silent}))
	status, body, _ := do(t, a, "POST", "/process.Process/Start", "{}", address()...)
	want := `{"sandboxId":"i1","code":502,"message":"reach sandbox web: the agent inside does not answer",` +
		`"error_code":"unavailable","hint":"bulkhead rollback web s1"`
	if status != 502 || !strings.HasPrefix(body, want) {
		t.Errorf("answer = %d %s\nwant     502 %s", status, body, want)
	}
}

func TestGuestLearnsThatItsClientLeft(t *testing.T) {
	arrived, left := make(chan struct{}), make(chan struct{})
	a := start(t, withGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		close(arrived)
		<-r.Context().Done()
		close(left)
	})))
	res := get(t, a, "/", address()...)
	<-arrived
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
	<-left
}

func TestShutdownCutsGuestStreams(t *testing.T) {
	a := start(t, withGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})))
	res := get(t, a, "/", address()...)
	expect(t, res.Body, "hello")
	a.stop()
	if _, err := io.ReadAll(res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading at shutdown = %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if err := <-a.done; err != nil {
		t.Error(err)
	}
}

func TestGuestTrailersArrive(t *testing.T) {
	a := start(t, withGuest(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = io.WriteString(w, "x")
		w.Header().Set("Grpc-Status", "0")
	})))
	res := get(t, a, "/", address()...)
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(http.Header{"Grpc-Status": {"0"}}, res.Trailer); diff != "" {
		t.Error(diff)
	}
}
