package terminal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"bulkhead/internal/fault"
	"bulkhead/proto/process"
	"bulkhead/proto/process/processconnect"
)

const (
	// maxMessage bounds one message of a guest; output comes in pieces of 32 KiB.
	maxMessage = 1 << 20
	// maxText bounds what is passed on of a guest's words.
	maxText = 500
)

// Tagged begins the names that shells have in a guest.
const Tagged = "console-"

// login starts a shell as a login does, in a guest that may lack bash.
const login = `command -v bash >/dev/null && exec bash -l; exec sh -l`

// Size is that of a terminal, in characters.
type Size struct {
	Cols uint32 `json:"cols"`
	Rows uint32 `json:"rows"`
}

// fits bounds a size to what terminals have (winsize has 16 bits, and nobody a
// screen of that many characters).
func (s Size) fits() Size {
	const most = 1000
	return Size{min(max(s.Cols, 2), most), min(max(s.Rows, 2), most)}
}

func (s Size) pty() *process.PTY {
	return &process.PTY{Size: &process.PTY_Size{Cols: s.Cols, Rows: s.Rows}}
}

// Shell follows one shell.
type Shell struct {
	name string
	// id tells it from the next of the same name.
	id string
	// life ends when the shell is let go of.
	life context.Context
	stop context.CancelFunc
	// ready is closed when the shell runs or cannot.
	ready chan struct{}
	// typing is held while input is sent, so that it arrives in order.
	typing sync.Mutex

	mu      sync.Mutex
	output  tail          // guarded by mu
	grown   chan struct{} // closed, and replaced, by output and by the end; guarded by mu
	ended   string        // how it ended; guarded by mu
	over    bool          // guarded by mu
	err     error         // why it cannot be followed; guarded by mu
	lookers int           // guarded by mu
	lonely  *time.Timer   // guarded by mu
	rpc     processconnect.ProcessClient
}

func newShell(name string) *Shell {
	s := &Shell{name: name, id: rand.Text(), ready: make(chan struct{}), grown: make(chan struct{})}
	s.life, s.stop = context.WithCancel(context.Background())
	return s
}

func (s *Shell) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookers++
	if s.lonely != nil {
		s.lonely.Stop()
		s.lonely = nil
	}
}

func (s *Shell) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lookers--; s.lookers == 0 {
		s.lonely = time.AfterFunc(patience, s.stop)
	}
}

func (s *Shell) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// follow finds or starts the shell and keeps what it prints, until it ends, is
// let go of, or its machine is gone.
func (s *Shell) follow(way func(context.Context) (http.RoundTripper, error), size Size) {
	err := s.run(way, size.fits())
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lonely != nil {
		s.lonely.Stop()
	}
	s.over = true
	if s.ended == "" {
		s.err = err
	}
	close(s.grown)
	select {
	case <-s.ready:
	default:
		close(s.ready)
	}
}

func (s *Shell) run(way func(context.Context) (http.RoundTripper, error), size Size) error {
	t, err := way(s.life)
	if err != nil {
		return err
	}
	s.rpc = processconnect.NewProcessClient(&http.Client{Transport: asRoot{t}}, "http://guest", connect.WithReadMaxBytes(maxMessage))
	err = s.join()
	var gone *connect.Error
	if errors.As(err, &gone) && gone.Code() == connect.CodeNotFound && s.life.Err() == nil {
		err = s.start(size)
	}
	if errors.As(err, &gone) && connect.IsWireError(err) {
		return fault.New(fault.Unavailable, "in the sandbox: %.*s", maxText, gone.Message())
	}
	return err
}

// join follows a shell that the guest has.
func (s *Shell) join() error {
	stream, err := s.rpc.Connect(s.life, connect.NewRequest(&process.ConnectRequest{Process: s.selector()}))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		s.take(stream.Msg().GetEvent())
	}
	return s.why(stream.Err())
}

// start follows a new one.
func (s *Shell) start(size Size) error {
	tag := Tagged + s.name
	stream, err := s.rpc.Start(s.life, connect.NewRequest(&process.StartRequest{
		Process: &process.ProcessConfig{
			Cmd: "/bin/sh", Args: []string{"-c", login}, Envs: map[string]string{"TERM": "xterm-256color"},
		},
		Pty: size.pty(), Tag: &tag,
	}))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		s.take(stream.Msg().GetEvent())
	}
	return s.why(stream.Err())
}

// why makes a stream that ends without the shell's end an error.
func (s *Shell) why(err error) error {
	if err != nil {
		return err
	}
	return fault.New(fault.Unavailable, "the connection to the sandbox was cut")
}

func (s *Shell) selector() *process.ProcessSelector {
	return &process.ProcessSelector{Selector: &process.ProcessSelector_Tag{Tag: Tagged + s.name}}
}

// take takes one event of the guest.
func (s *Shell) take(e *process.ProcessEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e := e.GetEvent().(type) {
	case *process.ProcessEvent_Start:
		select {
		case <-s.ready:
		default:
			close(s.ready)
		}
	case *process.ProcessEvent_Data:
		s.output.add(e.Data.GetPty())
		close(s.grown)
		s.grown = make(chan struct{})
	case *process.ProcessEvent_End:
		s.ended = fmt.Sprintf("%.*s", maxText, e.End.GetStatus())
		if s.ended == "" {
			s.ended = "ended"
		}
	}
}

// news returns what was printed after a place, and the place after that. If
// there is nothing it returns what is closed once there is.
func (s *Shell) news(after int64) (b []byte, next int64, grown <-chan struct{}, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, next = s.output.since(after)
	return b, next, s.grown, s.over
}

// end says how the shell ended, or why it cannot be followed any more.
func (s *Shell) end() (status string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended, s.err
}

// write types.
func (s *Shell) write(ctx context.Context, b []byte) error {
	s.typing.Lock()
	defer s.typing.Unlock()
	_, err := s.rpc.SendInput(ctx, connect.NewRequest(&process.SendInputRequest{
		Process: s.selector(), Input: &process.ProcessInput{Input: &process.ProcessInput_Pty{Pty: b}},
	}))
	return err
}

func (s *Shell) resize(ctx context.Context, size Size) error {
	_, err := s.rpc.Update(ctx, connect.NewRequest(&process.UpdateRequest{Process: s.selector(), Pty: size.fits().pty()}))
	return err
}

// asRoot speaks to an agent as the guest's root.
type asRoot struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (a asRoot) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth("root", "")
	return a.next.RoundTrip(r)
}
