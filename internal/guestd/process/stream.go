package process

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	"bulkhead/internal/guestd/keepalive"
	pb "bulkhead/proto/process"
)

// Start runs a program and streams its output until its end. The deadline of
// the call is the program's: it is killed then, even if the client has gone.
func (s *Service) Start(ctx context.Context, req *connect.Request[pb.StartRequest], stream *connect.ServerStream[pb.StartResponse]) error {
	p, ends, err := s.spawn(req.Header(), req.Msg)
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		p.killAt(deadline)
	}
	l := p.out.listen(ctx) // before the first byte is read
	defer l.leave()
	s.add(p)
	go p.run(ends)
	return p.tell(l, keepalive.Interval(req.Header()), func(ev *pb.ProcessEvent) error {
		if ev.GetEnd() != nil && p.hasExpired() {
			return contextError(context.DeadlineExceeded)
		}
		return stream.Send(&pb.StartResponse{Event: ev})
	})
}

// Connect streams the output of a process from now on, until its end.
func (s *Service) Connect(ctx context.Context, req *connect.Request[pb.ConnectRequest], stream *connect.ServerStream[pb.ConnectResponse]) error {
	p, err := s.find(req.Msg.GetProcess())
	if err != nil {
		return err
	}
	l := p.out.listen(ctx)
	defer l.leave()
	return p.tell(l, keepalive.Interval(req.Header()), func(ev *pb.ProcessEvent) error {
		return stream.Send(&pb.ConnectResponse{Event: ev})
	})
}

// tell sends the events of a process to one client: start, what the listener
// hears, end; and a sign of life after every silence of that length.
func (p *process) tell(l *listener, every time.Duration, send func(*pb.ProcessEvent) error) error {
	ev := &pb.ProcessEvent{Event: &pb.ProcessEvent_Start{Start: &pb.ProcessEvent_StartEvent{Pid: p.pid()}}}
	idle := time.NewTimer(every)
	defer idle.Stop()
	for {
		if err := send(ev); err != nil {
			return err
		}
		idle.Reset(every)
		select {
		case <-l.gone.Done():
			return contextError(l.gone.Err())
		case <-idle.C:
			ev = &pb.ProcessEvent{Event: &pb.ProcessEvent_Keepalive{Keepalive: &pb.ProcessEvent_KeepAlive{}}}
		case data, more := <-l.events:
			if !more {
				return send(p.out.ending())
			}
			ev = data
		}
	}
}

func contextError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	}
	return connect.NewError(connect.CodeCanceled, err)
}
