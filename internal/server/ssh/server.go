// Package ssh lets the stock SSH clients into sandboxes: the user name of a
// connection names the sandbox, a public key of a team says who is there.
//
//	connection --login--> who, and which sandbox
//	  session         a program in the guest: a shell, a command or sftp
//	  direct-tcpip    a connection to a port of the guest
//
// Nothing is done here: each of these is a call of the daemon's own API, as the
// team, so that nobody can do by SSH what the API would refuse. There are no
// passwords; agents, X11, sockets and ports of the client are not forwarded to
// the guest, which is hostile; what it sends goes to the client and nowhere
// else.
//
// Before a login everything is bounded by source and in all (doorman.go),
// after it by connection. ssh must not know sandboxes beyond Sandboxes. A
// Server is safe for concurrent use.
package ssh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"bulkhead/client"

	"golang.org/x/crypto/ssh"
)

// Bounds of connections.
const (
	// loginLimit is how long somebody may take to log in: a person has to touch
	// a key, or to type a passphrase. OpenSSH's server waits as long by default
	// (sshd_config(5), LoginGraceTime, is 120 s).
	loginLimit = time.Minute
	// maxConns and maxPerKey are how many connections there may be.
	maxConns, maxPerKey = 128, 32
	// alive is how often a connection is looked at: whether its peer answers,
	// its key counts and its sandbox exists. patience is how many looks a peer
	// may leave without an answer.
	alive    = 20 * time.Second
	patience = 3
)

// Sandboxes is what can be done after a login; *client.Client is one.
type Sandboxes interface {
	Sandbox(ctx context.Context, ref string) (client.Sandbox, error)
	Run(ctx context.Context, e client.Exec) (client.Exit, error)
	DialPort(ctx context.Context, ref string, port uint16) (*client.PortConn, error)
	// Close lets go of what is kept for further calls.
	Close()
}

// Keys says whose a key is.
type Keys interface {
	// Teams returns the teams that a key belongs to, none for one that is not
	// known.
	Teams(key ssh.PublicKey) []string
}

// Options are what a server needs. All are needed.
type Options struct {
	HostKey ssh.Signer
	Keys    Keys
	// As returns the API for somebody of a team with a key.
	As func(team, fingerprint string) Sandboxes
	// Event records a login (ssh.login) or its refusal (ssh.denied).
	Event func(ctx context.Context, typ, sandboxID string, fields map[string]string)
	Clock func() time.Time
	Log   *slog.Logger
}

// Server is an SSH server.
type Server struct {
	Options
	door *doorman

	mu    sync.Mutex
	conns map[*connection]bool // guarded by mu
}

// New returns a server that does not listen yet.
func New(o Options) *Server {
	return &Server{Options: o, door: newDoorman(o.Clock), conns: map[*connection]bool{}}
}

// Serve lets people in from l until ctx ends, which is no error. Then l is
// closed, connections are cut, and nothing of it runs any more.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("serve SSH: %w", err)
		}
		if err != nil { // of one connection, or there are no descriptors for a moment
			s.Log.WarnContext(ctx, "SSH connection not accepted", "err", err)
			if !pause(ctx, time.Second/10) {
				return nil
			}
			continue
		}
		leave, ok := s.door.enter(c.RemoteAddr())
		if !ok {
			c.Close()
			continue
		}
		open.Go(func() { s.receive(ctx, c, leave) })
	}
}

// pause waits; it returns false if ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// receive is the life of a connection. leave is called once it has, or has not,
// logged in.
func (s *Server) receive(ctx context.Context, raw net.Conn, leave func(in bool)) {
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	c, err := s.login(ctx, raw)
	leave(err == nil)
	if err != nil {
		s.Log.DebugContext(ctx, "SSH login failed", "err", err)
		return
	}
	defer c.api.Close()
	defer c.Close()
	if !s.admit(c) {
		s.denied(ctx, c.who, "too many connections")
		return
	}
	defer s.dismiss(c)
	c.serve(ctx)
}

// admit counts a connection, unless there are too many.
func (s *Server) admit(c *connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := 0
	for other := range s.conns {
		if other.who.fingerprint == c.who.fingerprint {
			same++
		}
	}
	if len(s.conns) >= maxConns || same >= maxPerKey {
		return false
	}
	s.conns[c] = true
	return true
}

func (s *Server) dismiss(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Drop cuts the connections that a team has by a key that is good no more.
func (s *Server) Drop(team, fingerprint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.who.team == team && c.who.fingerprint == fingerprint {
			c.Close()
		}
	}
}
