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

	// Stdin is read until its end, which the program sees as end-of-file; nil
	// means that the program has no input at all.
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
		return 0, c.execError(err)
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
		return 0, c.execError(err)
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

// signalNumbers are those of Linux on x86-64 (signal(7)), by the words of the
// end event.
var signalNumbers = map[string]int{
	"hangup": 1, "interrupt": 2, "quit": 3, "illegal instruction": 4, "trace/breakpoint trap": 5,
	"aborted": 6, "bus error": 7, "floating point exception": 8, "killed": 9,
	"user defined signal 1": 10, "segmentation fault": 11, "user defined signal 2": 12,
	"broken pipe": 13, "alarm clock": 14, "terminated": 15,
}

// exitCode is what a shell would make of the end of a program.
func exitCode(e *process.ProcessEvent_EndEvent) int {
	if e.GetExited() {
		return int(e.GetExitCode())
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(e.GetStatus(), "signal: "), " (core dumped)")
	if n, ok := signalNumbers[name]; ok {
		return 128 + n
	}
	return 128
}

// steer sends a running program what its user wants.
type steer struct {
	rpc  processconnect.ProcessClient
	proc *process.ProcessSelector
}

// follow passes on input, sizes and signals until ctx ends. What cannot be
// delivered to a program that has just ended is lost, as with any pipe.
func (s steer) follow(ctx context.Context, e Exec) {
	if e.Stdin != nil {
		go s.input(ctx, e.Stdin, e.Terminal != nil)
	}
	if e.Resize != nil {
		go each(ctx, e.Resize, func(z Size) {
			s.rpc.Update(ctx, connect.NewRequest(&process.UpdateRequest{
				Process: s.proc, Pty: &process.PTY{Size: &process.PTY_Size{Cols: z.Cols, Rows: z.Rows}},
			}))
		})
	}
	if e.Signals != nil {
		go each(ctx, e.Signals, func(sig int) {
			s.rpc.SendSignal(ctx, connect.NewRequest(&process.SendSignalRequest{
				Process: s.proc, Signal: process.Signal(sig),
			}))
		})
	}
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

// input streams r to the program, then its end. A terminal has no end.
func (s steer) input(ctx context.Context, r io.Reader, terminal bool) {
	stream := s.rpc.StreamInput(ctx)
	stream.Send(&process.StreamInputRequest{Event: &process.StreamInputRequest_Start{
		Start: &process.StreamInputRequest_StartEvent{Process: s.proc},
	}})
	buf := make([]byte, inputChunk)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			in := &process.ProcessInput{Input: &process.ProcessInput_Stdin{Stdin: buf[:n]}}
			if terminal {
				in = &process.ProcessInput{Input: &process.ProcessInput_Pty{Pty: buf[:n]}}
			}
			serr := stream.Send(&process.StreamInputRequest{Event: &process.StreamInputRequest_Data{
				Data: &process.StreamInputRequest_DataEvent{Input: in},
			}})
			if serr != nil {
				return
			}
		}
		if err != nil {
			break
		}
	}
	stream.CloseAndReceive()
	if !terminal {
		s.rpc.CloseStdin(ctx, connect.NewRequest(&process.CloseStdinRequest{Process: s.proc}))
	}
}

// execError turns what the daemon's proxy or the agent says into an *Error.
func (c *Client) execError(err error) error {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return c.unreachable(err)
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	switch ce.Code() {
	case connect.CodeUnavailable, connect.CodeUnknown, connect.CodeInternal, connect.CodeCanceled:
		return fmt.Errorf("%w: %s", ErrCutOff, ce.Message())
	case connect.CodeInvalidArgument, connect.CodeUnauthenticated:
		return &Error{Code: http.StatusBadRequest, Kind: "invalid", Message: ce.Message()}
	}
	return ce
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
