package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"connectrpc.com/connect"

	pb "bulkhead/proto/process"
)

// input is the standard input or terminal of a process. Writers take turns,
// so pieces never mix, and an end-of-file comes after what was sent before.
type input struct {
	turn   chan struct{} // holds one token while nobody writes
	file   *os.File
	closed bool // guarded by the token
}

func newInput(f *os.File) *input {
	in := &input{turn: make(chan struct{}, 1), file: f}
	in.turn <- struct{}{}
	return in
}

var errInputClosed = errors.New("input is closed")

// write waits until the program has room for all of data or ctx is done; then
// a part may have been written.
func (in *input) write(ctx context.Context, data []byte) error {
	if err := in.take(ctx); err != nil {
		return err
	}
	defer in.pass()
	if in.closed {
		return errInputClosed
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = in.file.SetWriteDeadline(time.Unix(1, 0)) // fails only if it is closed, which wakes as well
		close(woken)
	})
	_, err := in.file.Write(data)
	if !stop() {
		<-woken
		_ = in.file.SetWriteDeadline(time.Time{})
		return ctx.Err()
	}
	return err
}

// close sends end-of-file. Closing again is no error.
func (in *input) close(ctx context.Context) error {
	if err := in.take(ctx); err != nil {
		return err
	}
	defer in.pass()
	if in.closed {
		return nil
	}
	in.closed = true
	return in.file.Close()
}

func (in *input) take(ctx context.Context) error {
	select {
	case <-in.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (in *input) pass() { in.turn <- struct{}{} }

// SendInput writes one piece and returns when the program has room for it.
func (s *Service) SendInput(ctx context.Context, req *connect.Request[pb.SendInputRequest]) (*connect.Response[pb.SendInputResponse], error) {
	p, err := s.live(req.Msg.GetProcess())
	if err != nil {
		return nil, err
	}
	if err := p.feed(ctx, req.Msg.GetInput()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.SendInputResponse{}), nil
}

// StreamInput writes the pieces of a stream, whose first event names the
// process. The end of the stream leaves the input open.
func (s *Service) StreamInput(ctx context.Context, stream *connect.ClientStream[pb.StreamInputRequest]) (*connect.Response[pb.StreamInputResponse], error) {
	var p *process
	for stream.Receive() {
		switch ev := stream.Msg().GetEvent().(type) {
		case *pb.StreamInputRequest_Start:
			var err error
			if p, err = s.live(ev.Start.GetProcess()); err != nil {
				return nil, err
			}
		case *pb.StreamInputRequest_Data:
			if p == nil {
				return nil, invalid("stream begins with data instead of start")
			}
			if err := p.feed(ctx, ev.Data.GetInput()); err != nil {
				return nil, err
			}
		case *pb.StreamInputRequest_Keepalive:
		default:
			return nil, invalid("stream event is empty")
		}
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.StreamInputResponse{}), nil
}

// CloseStdin sends end-of-file after the input sent before.
func (s *Service) CloseStdin(ctx context.Context, req *connect.Request[pb.CloseStdinRequest]) (*connect.Response[pb.CloseStdinResponse], error) {
	p, err := s.live(req.Msg.GetProcess())
	if err != nil {
		return nil, err
	}
	if p.tty != nil {
		return nil, connect.NewError(connect.CodeUnknown, errors.New("a terminal has no end of input: send ctrl-d (0x04)"))
	}
	if p.stdin != nil {
		if err := p.stdin.close(ctx); err != nil {
			return nil, inputError(err)
		}
	}
	return connect.NewResponse(&pb.CloseStdinResponse{}), nil
}

// feed writes in to the process; in must be of the kind that it reads.
func (p *process) feed(ctx context.Context, in *pb.ProcessInput) error {
	var data []byte
	switch in := in.GetInput().(type) {
	case *pb.ProcessInput_Stdin:
		if p.tty != nil {
			return inputError(errors.New("process has a terminal: send pty input"))
		}
		data = in.Stdin
	case *pb.ProcessInput_Pty:
		if p.tty == nil {
			return inputError(errors.New("process has no terminal: send stdin input"))
		}
		data = in.Pty
	default:
		return invalid("input is empty")
	}
	if p.stdin == nil {
		return inputError(errInputClosed)
	}
	if err := p.stdin.write(ctx, data); err != nil {
		return inputError(err)
	}
	return nil
}

func inputError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return contextError(err)
	}
	return connect.NewError(connect.CodeInternal, fmt.Errorf("write input: %w", err))
}
