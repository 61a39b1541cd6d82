package input

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"bulkhead/internal/fault"
)

const (
	// Patience is how long a body may take that is read whole.
	Patience = 10 * time.Second
	// Still is how long one may stand still that is passed on as it comes.
	Still = time.Minute
)

// Bounds are of a body that is read whole.
type Bounds struct {
	Most   int64
	Within time.Duration
}

// Body reads a request's body whole, so that what is done with it takes no time of
// the sender's. The error is fault.Invalid for one that is larger, and
// fault.Timeout for one that takes longer; what is left of it is still to come.
func Body(w http.ResponseWriter, r *http.Request, b Bounds) ([]byte, error) {
	control := http.NewResponseController(w)
	// A recorder of tests has no connection, and so no deadline.
	_ = control.SetReadDeadline(time.Now().Add(b.Within))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, b.Most))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, fault.New(fault.Invalid, "request body is larger than %d bytes", b.Most)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fault.New(fault.Timeout, "request body took longer than %s", b.Within)
	case err != nil:
		return nil, fault.New(fault.Invalid, "read request body: %w", err)
	}
	_ = control.SetReadDeadline(time.Time{})
	return body, nil
}

// Steady bounds how long a body stands still that is passed on as it comes: reads
// of it fail with fault.Timeout then.
func Steady(w http.ResponseWriter, r *http.Request, still time.Duration) {
	if r.Body == http.NoBody {
		return
	}
	r.Body = &steady{ReadCloser: r.Body, control: http.NewResponseController(w), still: still}
}

type steady struct {
	io.ReadCloser
	control *http.ResponseController
	still   time.Duration
}

// Read implements io.Reader.
func (s *steady) Read(p []byte) (int, error) {
	_ = s.control.SetReadDeadline(time.Now().Add(s.still))
	n, err := s.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		// Behind the body the server waits for the client to go away. In the middle of
		// one it would wait for the rest of what is of no use any more.
		_ = s.control.SetReadDeadline(time.Time{})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fault.New(fault.Timeout, "request body stood still for %s", s.still)
	}
	return n, err
}
