// Package program runs programs in a sandbox by its agent: input, output, signals,
// the size of a terminal, and how they ended.
//
// program is given the way to the agent and must not know the daemon. What comes
// from a guest may be anything.
package program

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"bulkhead/proto/process"

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

	// Stdin is read until its end, which the program sees as end-of-file,
	// except on a terminal, which has no end. Nil means no input at all. A
	// read may still be under way when Exec returns; what it yields is lost.
	Stdin io.Reader
	// Stdout and Stderr get what the program writes, nil drops it. With a
	// terminal, all of it goes to Stdout.
	Stdout, Stderr io.Writer

	// Terminal gives the program a terminal of this size, nil means none.
	Terminal *Size
	// Resize changes the size of the terminal. It need not be closed.
	Resize <-chan Size
	// Signals are passed on to the program: 15 or 9, the guest knows no
	// others. One that comes before the program runs ends the call instead.
	// It need not be closed.
	Signals <-chan int
}

// Size is that of a terminal, in characters.
type Size struct{ Cols, Rows uint32 }

// Agent is what is needed of the agent in a sandbox.
type Agent interface {
	Start(context.Context, *connect.Request[process.StartRequest]) (*connect.ServerStreamForClient[process.StartResponse], error)
	Update(context.Context, *connect.Request[process.UpdateRequest]) (*connect.Response[process.UpdateResponse], error)
	StreamInput(context.Context) *connect.ClientStreamForClient[process.StreamInputRequest, process.StreamInputResponse]
	CloseStdin(context.Context, *connect.Request[process.CloseStdinRequest]) (*connect.Response[process.CloseStdinResponse], error)
	SendSignal(context.Context, *connect.Request[process.SendSignalRequest]) (*connect.Response[process.SendSignalResponse], error)
}

// errNotRun is the end of a call whose user did not wait for the program.
var errNotRun = errors.New("interrupted before the program ran")

// farewell bounds how long a program is told to end that nobody listens to.
const farewell = 2 * time.Second

// Run runs a program and returns its exit code when it has ended, see
// client.Client.Exec. explain makes the error of what the agent, or the way to it,
// has answered; it is given nil if the answer ended before the program.
func Run(ctx context.Context, rpc Agent, e Exec, explain func(error) error) (code int, err error) {
	r := &execution{Exec: e, started: make(chan struct{}), rpc: rpc}
	defer r.aides.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.aides.Go(func() { r.passSignals(ctx, cancel) })

	stream, err := r.rpc.Start(ctx, connect.NewRequest(r.request()))
	if err == nil {
		defer stream.Close()
		for err == nil && stream.Receive() {
			err = r.handle(ctx, stream.Msg().GetEvent())
		}
		if err != nil {
			return 0, err
		}
		err = stream.Err()
	}
	switch {
	case r.end != nil:
		return exitCode(r.end), nil
	case context.Cause(ctx) != nil:
		return 0, context.Cause(ctx)
	}
	return 0, explain(err)
}

// execution is one program under way.
type execution struct {
	Exec
	rpc     Agent
	started chan struct{} // closed once proc is known
	proc    *process.ProcessSelector
	end     *process.ProcessEvent_EndEvent
	// aides carry signals and sizes; they end with the call.
	aides sync.WaitGroup
}

func (r *execution) request() *process.StartRequest {
	stdin := r.Stdin != nil
	req := &process.StartRequest{
		Process: &process.ProcessConfig{Cmd: r.Cmd, Args: r.Args, Envs: r.Env}, Stdin: &stdin,
	}
	if r.Dir != "" {
		req.Process.Cwd = &r.Dir
	}
	if r.Terminal != nil {
		req.Pty = r.Terminal.pty()
	}
	return req
}

func (s Size) pty() *process.PTY {
	return &process.PTY{Size: &process.PTY_Size{Cols: s.Cols, Rows: s.Rows}}
}

// handle takes one event. The first start and the first end count: a guest
// may say anything, as often as it likes.
func (r *execution) handle(ctx context.Context, ev *process.ProcessEvent) error {
	switch ev := ev.GetEvent().(type) {
	case *process.ProcessEvent_Start:
		if r.proc == nil {
			r.proc = &process.ProcessSelector{Selector: &process.ProcessSelector_Pid{Pid: ev.Start.GetPid()}}
			close(r.started)
			r.follow(ctx)
		}
	case *process.ProcessEvent_Data:
		if err := r.write(ev.Data); err != nil {
			if r.proc != nil {
				ctx, cancel := context.WithTimeout(ctx, farewell)
				defer cancel()
				r.signal(ctx, process.Signal_SIGNAL_SIGTERM)
			}
			return err
		}
	case *process.ProcessEvent_End:
		if r.end == nil {
			r.end = ev.End
		}
	}
	return nil
}

func (r *execution) write(d *process.ProcessEvent_DataEvent) error {
	to, data := r.Stdout, []byte(nil)
	switch out := d.GetOutput().(type) {
	case *process.ProcessEvent_DataEvent_Stdout:
		data = out.Stdout
	case *process.ProcessEvent_DataEvent_Stderr:
		to, data = r.Stderr, out.Stderr
	case *process.ProcessEvent_DataEvent_Pty:
		data = out.Pty
	}
	if to == nil {
		return nil
	}
	_, err := to.Write(data)
	return err
}

// follow begins to pass on input and sizes. What cannot be delivered to a
// program that has just ended is lost, as with any pipe.
func (r *execution) follow(ctx context.Context) {
	if r.Stdin != nil {
		go r.input(ctx) // not waited for: nothing interrupts a read
	}
	r.aides.Go(func() {
		each(ctx, r.Resize, func(s Size) {
			_, _ = r.rpc.Update(ctx, connect.NewRequest(&process.UpdateRequest{Process: r.proc, Pty: s.pty()}))
		})
	})
}

func (r *execution) passSignals(ctx context.Context, cancel context.CancelCauseFunc) {
	each(ctx, r.Signals, func(sig int) {
		select {
		case <-r.started:
			r.signal(ctx, process.Signal(sig))
		default:
			cancel(errNotRun)
		}
	})
}

func (r *execution) signal(ctx context.Context, sig process.Signal) {
	_, _ = r.rpc.SendSignal(ctx, connect.NewRequest(&process.SendSignalRequest{Process: r.proc, Signal: sig}))
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

// input streams Stdin to the program, then its end.
func (r *execution) input(ctx context.Context) {
	stream := r.rpc.StreamInput(ctx)
	err := stream.Send(&process.StreamInputRequest{Event: &process.StreamInputRequest_Start{
		Start: &process.StreamInputRequest_StartEvent{Process: r.proc},
	}})
	buf := make([]byte, inputChunk)
	for err == nil {
		n, readErr := r.Stdin.Read(buf)
		if n > 0 {
			err = stream.Send(&process.StreamInputRequest{Event: &process.StreamInputRequest_Data{
				Data: &process.StreamInputRequest_DataEvent{Input: r.piece(buf[:n])},
			}})
		}
		if readErr != nil {
			break
		}
	}
	_, err = stream.CloseAndReceive()
	if err == nil && r.Terminal == nil {
		_, _ = r.rpc.CloseStdin(ctx, connect.NewRequest(&process.CloseStdinRequest{Process: r.proc}))
	}
}

func (r *execution) piece(b []byte) *process.ProcessInput {
	if r.Terminal != nil {
		return &process.ProcessInput{Input: &process.ProcessInput_Pty{Pty: b}}
	}
	return &process.ProcessInput{Input: &process.ProcessInput_Stdin{Stdin: b}}
}

// exitCode is what a shell would make of the end of a program. The agent names
// a signal in the words of Go's syscall package.
func exitCode(e *process.ProcessEvent_EndEvent) int {
	if code := int(e.GetExitCode()); e.GetExited() && code >= 0 && code <= 255 {
		return code
	}
	const most = 64 // signal(7)
	name, _ := strings.CutPrefix(e.GetStatus(), "signal: ")
	name, _ = strings.CutSuffix(name, " (core dumped)")
	for sig := syscall.Signal(1); sig <= most; sig++ {
		if sig.String() == name {
			return 128 + int(sig)
		}
	}
	return 255
}
