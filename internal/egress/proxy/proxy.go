// Package proxy carries the TCP connections of one sandbox to where they may
// go.
//
// The address that a guest connects to stands for a name. The policy decides
// about the name and the port; then what the first bytes say of themselves, a
// name in TLS or the host of each HTTP request, must be that name too: whoever
// shares the address of an allowed host must not be reached by its name. On the
// ports where only these two are spoken, nobody is dialled before that is known,
// and nothing else is passed.
//
//	refused       the connection is reset at once; plain HTTP on port 80 gets an
//	              answer that says why
//	TLS           checked once, then the kernel moves the bytes; or, where the
//	              requests need something, ended here by what Terminate returns
//	HTTP          checked request by request; answers are moved by the kernel;
//	              WebSockets pass once the host has agreed to them
//	other ports   what is neither is passed as it is
//
// proxy must not know policies, names or networks: all comes as functions. A
// Proxy is safe for concurrent use.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Destination is where a guest wants to go.
type Destination struct {
	// Name is "" for an address that stands for none.
	Name string
	Addr netip.Addr
	Port uint16
}

// String is "name:port" or "address:port".
func (d Destination) String() string {
	if d.Name != "" {
		return fmt.Sprintf("%s:%d", d.Name, d.Port)
	}
	return netip.AddrPortFrom(d.Addr, d.Port).String()
}

// Verdict is a decision, and the rule that made it in words.
type Verdict struct {
	Allow bool
	Rule  string
}

// Connection is what became of one: it is recorded when it was refused or
// begins, and again when a begun one ends.
type Connection struct {
	Dest Destination
	// Addr is the real address; invalid if there was none.
	Addr    netip.Addr
	Verdict Verdict
	// Reason says why it was refused or cut although a rule allows it.
	Reason string
	// Up and Down are bytes from and to the guest.
	Up, Down int64
	// Opened is zero for a refused one, Closed for one that begins.
	Opened, Closed time.Time
}

// Terminator speaks with the guest in the place of the host, until guest is
// closed or ctx ends. It may dial the host, always the same, as often as it
// needs.
type Terminator func(ctx context.Context, guest net.Conn, dial func(context.Context) (net.Conn, error)) error

// Allowance is what one connection may move, from Admit until Leave. It is safe
// for concurrent use.
type Allowance interface {
	// Metered reports whether bytes have to be counted before they are moved.
	Metered() bool
	// Spend counts bytes; an error cuts the connection.
	Spend(up, down int64) error
	Leave()
}

// Proxy serves the guest of one sandbox. All fields are needed.
type Proxy struct {
	// Name returns what an address stands for.
	Name func(netip.Addr) (string, bool)
	// Decide may wait; Forbids does not, and is about an open connection.
	Decide  func(context.Context, Destination) Verdict
	Forbids func(Destination) bool
	// Dial resolves and connects; DialAddr is for addresses.
	Dial     func(ctx context.Context, name string, port uint16) (net.Conn, netip.Addr, error)
	DialAddr func(ctx context.Context, a netip.Addr, port uint16) (net.Conn, error)
	// Terminate returns what is in the place of the host, on the ports of HTTP
	// and TLS; nil to pass a connection on as it is.
	Terminate func(Destination) Terminator
	// Original says where a connection was meant to go.
	Original func(net.Conn) (netip.AddrPort, error)
	// Admit is asked once a connection is allowed; an error refuses it.
	Admit  func(Destination) (Allowance, error)
	Record func(Connection)
	// MaxConns is how many may be open at once, Room is that of all sandboxes.
	MaxConns int
	Room     *Room
	Clock    func() time.Time
	Log      *slog.Logger

	mu sync.Mutex
	// open holds how to cut each connection; guarded by mu.
	open map[*session]context.CancelCauseFunc
	// taken is how many descriptors they take of the room; guarded by mu.
	taken int
}

// acceptPause is how long nobody is let in once the host has no descriptor or
// no memory for one more.
const acceptPause = 100 * time.Millisecond

// errForbidden is why connections are cut that a new policy forbids.
var errForbidden = errors.New("a new policy forbids it")

// Serve serves l until ctx ends and every connection is closed. It closes l.
func (p *Proxy) Serve(ctx context.Context, l net.Listener) error {
	var all sync.WaitGroup
	defer all.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if passing(err) {
			p.Log.WarnContext(ctx, "connection of a guest is not accepted", "err", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		if err != nil {
			l.Close()
			return fmt.Errorf("accept connection: %w", err)
		}
		guest, ok := conn.(*net.TCPConn)
		if !ok {
			conn.Close()
			return fmt.Errorf("%T is no TCP connection", conn)
		}
		all.Go(func() { p.serve(ctx, guest) })
	}
}

// passing reports whether an error of accept(2) is one after which it may work
// again.
func passing(err error) bool {
	for _, passing := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// Recheck cuts the connections that are no longer allowed.
func (p *Proxy) Recheck() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s, cut := range p.open {
		if p.Forbids(s.Dest) {
			cut(errForbidden)
		}
	}
}

// serve carries one connection.
func (p *Proxy) serve(ctx context.Context, guest *net.TCPConn) {
	defer guest.Close()
	to, err := p.Original(guest)
	if err != nil {
		p.Log.DebugContext(ctx, "connection without a destination", "err", err)
		return
	}
	ctx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	s := &session{p: p, guest: guest, answers: newAnswers(), Connection: Connection{Dest: Destination{Addr: to.Addr(), Port: to.Port()}}}
	s.Dest.Name, _ = p.Name(to.Addr())
	if err := p.enter(s, cut); err != nil { // before anything that waits, and nothing is said
		s.Reason = err.Error()
		p.Record(s.Connection)
		reset(guest)
		return
	}
	defer p.leave(s)
	// Whatever waits on one of the two connections ends with ctx.
	stop := context.AfterFunc(ctx, s.cut)
	defer stop()
	if s.Verdict = p.Decide(ctx, s.Dest); !s.Verdict.Allow {
		s.refuse("")
		return
	}
	if s.allowance, err = p.Admit(s.Dest); err != nil {
		s.refuse(err.Error())
		return
	}
	defer s.allowance.Leave()
	s.run(ctx)
}

func (p *Proxy) enter(s *session, cut context.CancelCauseFunc) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.open) >= p.MaxConns {
		return fmt.Errorf("%d connections are open already", p.MaxConns)
	}
	if err := p.take(perConnection); err != nil {
		return err
	}
	if p.open == nil {
		p.open = map[*session]context.CancelCauseFunc{}
	}
	p.open[s] = cut
	return nil
}

func (p *Proxy) leave(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, s)
	p.give(perConnection)
}

// take takes descriptors of the room. The caller holds mu.
func (p *Proxy) take(n int) error {
	if !p.Room.take(n, p.taken) {
		return errors.New("all sandboxes together have as many connections open as this host can")
	}
	p.taken += n
	return nil
}

func (p *Proxy) give(n int) {
	p.Room.give(n)
	p.taken -= n
}
