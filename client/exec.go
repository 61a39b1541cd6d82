package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"

	"bulkhead/proto/process"
	"bulkhead/proto/process/processconnect"

	"connectrpc.com/connect"
)

// Exec is a program to run in a sandbox.
type Exec struct {
	// Sandbox is an id, a unique prefix of one, or a name.
	Sandbox string
	// Cmd is the program, looked up in the user's PATH, with its arguments.
	Cmd  string
	Args []string
	// User is who runs it; "" means root.
	User string
	// Dir is where it starts; "" means the user's home.
	Dir string
	Env map[string]string

	// Stdin is read until its end or an error, which the program sees as
	// end-of-file; nil means that the program has no input at all. When Exec
	// returns, one last Read may still be under way, and what it gets is lost.
	Stdin io.Reader
	// Stdout and Stderr get what the program writes. With a terminal, all of
	// it goes to Stdout.
	Stdout, Stderr io.Writer

	// Terminal gives the program a terminal of this size, nil means none.
	Terminal *Size
	// Resize changes the size of the terminal; the caller closes it.
	Resize <-chan Size
	// Signals are passed on to the program: 15 or 9. The caller closes it.
	Signals <-chan int
}

// Size is that of a terminal, in characters.
type Size struct{ Cols, Rows uint32 }

// ErrCutOff means that the sandbox or the daemon went away while a program
// ran.
var ErrCutOff = errors.New("connection to the sandbox was cut")

// Exec runs a program and returns its exit code when it has ended: 128 and
// the signal's number if a signal ended it. It does not end the program when
// ctx ends: the program is the guest's.
func (c *Client) Exec(ctx context.Context, e Exec) (code int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rpc := processconnect.NewProcessClient(&http.Client{Transport: c.guest(e.Sandbox, e.User)}, "http://bulkhead")
	stream, err := rpc.Start(ctx, connect.NewRequest(e.request()))
	if err != nil {
		return 0, c.execError(ctx, e.Sandbox, err)
	}
	defer stream.Close()
	ended := false
	for stream.Receive() {
		switch ev := stream.Msg().GetEvent().GetEvent().(type) {
		case *process.ProcessEvent_Start:
			s := steer{rpc, &process.ProcessSelector{Selector: &process.ProcessSelector_Pid{Pid: ev.Start.GetPid()}}}
			s.follow(ctx, e)
		case *process.ProcessEvent_Data:
			if err := e.write(ev.Data); err != nil {
				return 0, err
			}
		case *process.ProcessEvent_End:
			ended, code = true, exitCode(ev.End)
		}
	}
	if err := stream.Err(); err != nil {
		return 0, c.execError(ctx, e.Sandbox, err)
	}
	if !ended {
		return 0, ErrCutOff
	}
	return code, nil
}

func (e Exec) request() *process.StartRequest {
	stdin := e.Stdin != nil
	r := &process.StartRequest{
		Process: &process.ProcessConfig{Cmd: e.Cmd, Args: e.Args, Envs: e.Env}, Stdin: &stdin,
	}
	if e.Dir != "" {
		r.Process.Cwd = &e.Dir
	}
	if e.Terminal != nil {
		r.Pty = &process.PTY{Size: &process.PTY_Size{Cols: e.Terminal.Cols, Rows: e.Terminal.Rows}}
	}
	return r
}

func (e Exec) write(d *process.ProcessEvent_DataEvent) error {
	var err error
	switch out := d.GetOutput().(type) {
	case *process.ProcessEvent_DataEvent_Stdout:
		_, err = e.Stdout.Write(out.Stdout)
	case *process.ProcessEvent_DataEvent_Stderr:
		_, err = e.Stderr.Write(out.Stderr)
	case *process.ProcessEvent_DataEvent_Pty:
		_, err = e.Stdout.Write(out.Pty)
	}
	return err
}

// exitCode is what a shell would make of the end of a program. What a guest
// makes up is not passed on where it could be taken for something else.
func exitCode(e *process.ProcessEvent_EndEvent) int {
	if code := e.GetExitCode(); e.GetExited() && code >= 0 && code <= 255 {
		return int(code)
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(e.GetStatus(), "signal: "), " (core dumped)")
	for n := range maxSignal {
		if syscall.Signal(n).String() == name {
			return 128 + n
		}
	}
	return 255
}

// maxSignal is the last real-time signal of Linux (signal(7)). The agent says
// a signal's name as Go does on Linux, which this package does too.
const maxSignal = 64

// steer sends a running program what its user wants.
type steer struct {
	Exec
	rpc            processconnect.ProcessClient
	proc           *process.ProcessSelector
	sync.WaitGroup // of all that sends
}

// follow passes on input, sizes and signals until ctx ends, to the first
// program that the guest says it has started. What cannot be delivered to one
// that has just ended is lost, as with any pipe.
func (s *steer) follow(ctx context.Context, pid uint32) {
	if s.proc != nil {
		return
	}
	s.proc = &process.ProcessSelector{Selector: &process.ProcessSelector_Pid{Pid: pid}}
	if s.Stdin != nil {
		s.Go(func() { s.input(ctx) })
	}
	s.Go(func() {
		each(ctx, s.Resize, func(z Size) {
			s.rpc.Update(ctx, connect.NewRequest(&process.UpdateRequest{
				Process: s.proc, Pty: &process.PTY{Size: &process.PTY_Size{Cols: z.Cols, Rows: z.Rows}},
			}))
		})
	})
	s.Go(func() {
		each(ctx, s.Signals, func(sig int) {
			s.rpc.SendSignal(ctx, connect.NewRequest(&process.SendSignalRequest{
				Process: s.proc, Signal: process.Signal(sig),
			}))
		})
	})
}

func each[T any](ctx context.Context, in <-chan T, do func(T)) {
	for {
		select {
		case v, ok := <-in:
			if !ok {
				return
			}
			do(v)
		case <-ctx.Done():
			return
		}
	}
}

// inputChunk is how much input travels at once.
const inputChunk = 32 << 10

// input streams Stdin to the program, then its end. A terminal has no end.
func (s *steer) input(ctx context.Context) {
	stream := s.rpc.StreamInput(ctx)
	read, stop := context.WithCancel(ctx)
	defer stop()
	send := func(in *process.StreamInputRequest) {
		if stream.Send(in) != nil { // the program reads no more, or has ended
			stop()
		}
	}
	send(&process.StreamInputRequest{Event: &process.StreamInputRequest_Start{
		Start: &process.StreamInputRequest_StartEvent{Process: s.proc},
	}})
	each(read, chunks(read, s.Stdin), func(b []byte) {
		in := &process.ProcessInput{Input: &process.ProcessInput_Stdin{Stdin: b}}
		if s.Terminal != nil {
			in = &process.ProcessInput{Input: &process.ProcessInput_Pty{Pty: b}}
		}
		send(&process.StreamInputRequest{Event: &process.StreamInputRequest_Data{
			Data: &process.StreamInputRequest_DataEvent{Input: in},
		}})
	})
	stream.CloseAndReceive()
	if s.Terminal == nil {
		s.rpc.CloseStdin(ctx, connect.NewRequest(&process.CloseStdinRequest{Process: s.proc}))
	}
}

// chunks reads r to its end or that of ctx. Nobody can end a Read, so the
// goroutine stays until the one under way returns.
func chunks(ctx context.Context, r io.Reader) <-chan []byte {
	out := make(chan []byte)
	go func() {
		defer close(out)
		for {
			buf := make([]byte, inputChunk)
			n, err := r.Read(buf)
			if n > 0 {
				select {
				case out <- buf[:n]:
				case <-ctx.Done():
					return
				}
			}
			if err != nil || ctx.Err() != nil {
				return
			}
		}
	}()
	return out
}

// execError turns what the daemon's proxy or the agent says into an *Error,
// and the end of a connection into ErrCutOff.
func (c *Client) execError(ctx context.Context, err error) error {
	var e *Error
	var ce *connect.Error
	switch {
	case errors.As(err, &e):
		return e
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &ce) && connect.IsWireError(err):
		return refused(ce)
	}
	return fmt.Errorf("%w: %w", ErrCutOff, err)
}

// refused is an answer of the agent. A guest that makes it up decides no more
// than what its own user reads.
func refused(ce *connect.Error) *Error {
	e := &Error{Code: http.StatusBadGateway, Kind: "internal", Message: ce.Message()}
	switch ce.Code() {
	case connect.CodeInvalidArgument, connect.CodeUnauthenticated: // the latter is an unknown user
		e.Code, e.Kind = http.StatusBadRequest, "invalid"
	case connect.CodeResourceExhausted:
		e.Code, e.Kind = http.StatusInsufficientStorage, "exhausted"
	}
	return e
}

// guest returns the way to the services in a sandbox, acting as user there.
func (c *Client) guest(ref, user string) http.RoundTripper {
	if user == "" {
		user = "root"
	}
	return &guestTransport{c: c, ref: ref, auth: "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"))}
}

type guestTransport struct {
	c         *Client
	ref, auth string
}

// RoundTrip adds what leads to the sandbox. The proxy's own refusals come
// back as *Error.
func (t *guestTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("E2b-Sandbox-Id", t.ref)
	req.Header.Set("E2b-Sandbox-Port", guestPort)
	req.Header.Set("Authorization", t.auth)
	resp, err := t.c.http.Transport.RoundTrip(req)
	if err != nil {
		return nil, t.c.unreachable(err)
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	return refusal(resp)
}

// refusal tells the proxy's answers, which are in our form, from those of the
// agent, which are left as they are.
func refusal(resp *http.Response) (*http.Response, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	resp.Body.Close()
	var e Error
	if err == nil && json.Unmarshal(b, &e) == nil && e.Code == resp.StatusCode {
		return nil, &e
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp, nil
}

// maxRefusal bounds an error's body.
const maxRefusal = 64 << 10
