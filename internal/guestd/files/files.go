// Package files is the agent's file service: an RPC half that looks at, moves,
// removes and watches files, and a plain HTTP half, /files, that carries their
// contents.
//
// The agent is root, so a request may reach every file of the guest. Its user
// decides what relative paths mean and who owns what is made; it is no
// boundary. The boundary is the machine.
//
// Both halves give errors of package fault inside; two tables in errors.go
// make them RPC codes and HTTP statuses. Everything that a request can make
// grow (messages, listings, queues, watchers) has a bound.
//
// files must not know how the agent is reached. Access control, signatures of
// /files included, wraps its handlers from outside. A Service is safe for
// concurrent use; its lock is never held across I/O.
package files

import (
	"net/http"
	"sync"

	"connectrpc.com/connect"

	"bulkhead/internal/guestd/account"
	"bulkhead/proto/filesystem/filesystemconnect"
)

// maxMessage bounds one RPC request; they hold little more than paths.
const maxMessage = 1 << 20

// maxPlain is the size from which answers are compressed for clients that like
// it: long listings, but no event.
const maxPlain = 64 << 10

// Options are what a Service needs; the zero value makes files for root.
type Options struct {
	// Users resolves who owns files.
	Users account.Users
	// Workdir says what an empty path means; nil or empty means the user's home.
	Workdir func() string
}

// Service serves files. It implements filesystemconnect.FilesystemHandler.
type Service struct {
	opts Options

	mu      sync.Mutex
	pollers map[string]*poller // by watcher id; guarded by mu
}

var _ filesystemconnect.FilesystemHandler = (*Service)(nil)

// New returns a service.
func New(o Options) *Service {
	return &Service{opts: o, pollers: map[string]*poller{}}
}

// Handler returns the path prefix of the RPC half and what serves it.
func (s *Service) Handler() (string, http.Handler) {
	path, h := filesystemconnect.NewFilesystemHandler(s,
		connect.WithReadMaxBytes(maxMessage),
		connect.WithCompressMinBytes(maxPlain))
	return path, s.opts.Users.Guard(h)
}

// Contents returns what serves the HTTP half: GET and POST /files and
// POST /files/compose.
func (s *Service) Contents() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /files", endpoint(s.download))
	mux.Handle("POST /files", endpoint(s.upload))
	mux.Handle("POST /files/compose", endpoint(s.compose))
	return mux
}

// workdir is where an empty path leads; empty for the user's home.
func (s *Service) workdir() string {
	if s.opts.Workdir == nil {
		return ""
	}
	return s.opts.Workdir()
}

// Close ends all polling watchers. Requests should have ended before.
func (s *Service) Close() {
	s.mu.Lock()
	pollers := s.pollers
	s.pollers = map[string]*poller{}
	s.mu.Unlock()
	for _, p := range pollers {
		p.stop()
	}
}
