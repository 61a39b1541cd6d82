// Package process is the agent's process service: it starts programs for
// clients outside, carries their input and output, and tells how they ended.
//
// A program belongs to the guest, not to the call that started it: a client
// that goes away leaves it running, and any number may connect to it later.
// What it writes while nobody listens is gone. A listener that does not read
// holds the program up, as the reader of a pipe does, so memory stays bounded.
//
//	running --exit--> draining --outputs silent--> ended --Retain--> forgotten
//
// The process is reaped on exit, whatever becomes of its output. Its end is
// told when its outputs are at end of file; if a descendant keeps them open,
// once they have been silent for a second, or ten seconds after the exit. What
// the process itself wrote is never cut off.
//
// Programs are executed directly, with no shell and no file of the guest but
// the program itself, so the service works in a wiped guest too.
//
// process must not know how the agent is reached. Access control wraps its
// handler from outside. A Service is safe for concurrent use; its lock is
// never held across I/O, and is taken before that of a process.
package process

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"bulkhead/internal/guestd/account"
	pb "bulkhead/proto/process"
	"bulkhead/proto/process/processconnect"
)

// maxMessage bounds one request: input larger than this must come in pieces.
const maxMessage = 32 << 20

// maxPlain is the size from which answers are compressed for clients that like
// it. No piece of output is that large: the way to the host is short, and the
// guest's CPU is the slow part.
const maxPlain = 64 << 10

// retain is how long an end is remembered for a client that connects late.
const retain = 30 * time.Second

// Options are what a Service needs; the zero value runs programs as root.
type Options struct {
	// Users resolves who runs a program.
	Users account.Users
	// Workdir says where programs start that name no directory; nil or empty
	// means the user's home.
	Workdir func() string
	// Env returns variables for every program, over those of the login and
	// under those of the request. The map is read, and must not change, after
	// it is returned. Nil means none.
	Env func() map[string]string
	// Cgroup returns the cgroup v2 directory in which programs start, as soon as
	// they may; done is called when one has started or could not be. The service
	// does not close it. Nil means the agent's own; an error refuses the start.
	Cgroup func() (dir *os.File, done func(), err error)
	// Retain overrides how long the end of a process is remembered; 0 means
	// 30 seconds.
	Retain time.Duration
}

// Service runs programs. It implements processconnect.ProcessHandler. Nothing
// else in the agent may wait for children that it has not started itself: the
// service would not learn how its own have ended.
type Service struct {
	opts Options
	null *os.File // opened while there is a /dev; nil if there never was

	mu    sync.Mutex
	procs []*process // oldest first, those remembered included; guarded by mu
}

var _ processconnect.ProcessHandler = (*Service)(nil)

// New returns a service that runs nothing yet.
func New(o Options) *Service {
	if o.Retain == 0 {
		o.Retain = retain
	}
	s := &Service{opts: o}
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		s.null = null
	}
	return s
}

// Handler returns the path prefix of the service and what serves it.
func (s *Service) Handler() (string, http.Handler) {
	path, h := processconnect.NewProcessHandler(s,
		connect.WithReadMaxBytes(maxMessage),
		connect.WithCompressMinBytes(maxPlain))
	return path, s.opts.Users.Guard(h)
}

// Close kills what still runs and waits until all outputs are read. Requests
// should have ended before.
func (s *Service) Close() {
	s.mu.Lock()
	procs := slices.Clone(s.procs)
	s.mu.Unlock()
	for _, p := range procs {
		_ = p.signal(os.Kill) // it has ended already
		<-p.ended
	}
	if s.null != nil {
		s.null.Close()
	}
}

// List returns the running processes, oldest first.
func (s *Service) List(context.Context, *connect.Request[pb.ListRequest]) (*connect.Response[pb.ListResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &pb.ListResponse{}
	for _, p := range s.procs {
		if p.running() {
			res.Processes = append(res.Processes, &pb.ProcessInfo{Config: p.config, Pid: p.pid(), Tag: p.tag})
		}
	}
	return connect.NewResponse(res), nil
}

// SendSignal signals a process itself, not its group.
func (s *Service) SendSignal(_ context.Context, req *connect.Request[pb.SendSignalRequest]) (*connect.Response[pb.SendSignalResponse], error) {
	p, err := s.live(req.Msg.GetProcess())
	if err != nil {
		return nil, err
	}
	sig, ok := signalOf(req.Msg.GetSignal())
	if !ok {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("only signals 1 to 15 can be sent"))
	}
	switch err := p.signal(sig); {
	case errors.Is(err, os.ErrProcessDone):
		return nil, notFound(req.Msg.GetProcess())
	case err != nil:
		return nil, connect.NewError(connect.CodeInternal, err)
	}
	return connect.NewResponse(&pb.SendSignalResponse{}), nil
}

// Update resizes the terminal of a process; without a size it does nothing.
func (s *Service) Update(_ context.Context, req *connect.Request[pb.UpdateRequest]) (*connect.Response[pb.UpdateResponse], error) {
	p, err := s.live(req.Msg.GetProcess())
	if err != nil {
		return nil, err
	}
	if size := req.Msg.GetPty().GetSize(); size != nil {
		if p.tty == nil {
			return nil, connect.NewError(connect.CodeInternal, errors.New("process has no terminal"))
		}
		if err := resize(p.tty, size); err != nil {
			return nil, connect.NewError(connect.CodeInternal, err)
		}
	}
	return connect.NewResponse(&pb.UpdateResponse{}), nil
}

func (s *Service) add(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
	s.procs = append(s.procs, p)
}

// forget drops the processes that ended long enough ago. It runs when the
// service is used rather than by a clock of its own. The caller holds mu.
func (s *Service) forget() {
	s.procs = slices.DeleteFunc(s.procs, func(p *process) bool {
		at, ok := p.endedAt()
		return ok && time.Since(at) > s.opts.Retain
	})
}

// find returns the newest running process that the selector means or, if none
// runs, the newest that is remembered. So neither a pid nor a tag that is used
// again leads to an old process.
func (s *Service) find(sel *pb.ProcessSelector) (*process, error) {
	if sel.GetSelector() == nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("process selector is missing"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
	var old *process
	for _, p := range slices.Backward(s.procs) {
		switch {
		case !p.is(sel):
		case p.running():
			return p, nil
		case old == nil:
			old = p
		}
	}
	if old == nil {
		return nil, notFound(sel)
	}
	return old, nil
}

// live is find for what only a running process can do.
func (s *Service) live(sel *pb.ProcessSelector) (*process, error) {
	p, err := s.find(sel)
	if err == nil && !p.running() {
		return nil, notFound(sel)
	}
	return p, err
}

func notFound(sel *pb.ProcessSelector) error {
	if tag, ok := sel.GetSelector().(*pb.ProcessSelector_Tag); ok {
		return connect.NewError(connect.CodeNotFound, errors.New("no process with tag '"+tag.Tag+"'"))
	}
	return connect.NewError(connect.CodeNotFound, errors.New("no process with that pid"))
}
