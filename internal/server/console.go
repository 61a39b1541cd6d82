package server

import (
	"net/http"
	"path/filepath"

	"bulkhead/internal/fault"
	"bulkhead/internal/server/console"
)

// console answers with what the guest wrote to its console: raw bytes that
// are not to be shown on a terminal as they are.
func (s *Server) console(w http.ResponseWriter, r *http.Request) error {
	ref := r.PathValue("ref")
	tail, err := countParam(r, "tail")
	if err != nil {
		return err
	}
	follow, err := boolParam(r, "follow")
	if err != nil {
		return err
	}
	folder, err := s.Sandboxes.Console(r.Context(), ref)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	c := console.New(filepath.Join(folder, "console.log"), w)
	defer c.Close()
	if err := c.CopyTail(tail); err != nil || !follow {
		return err
	}
	return c.Follow(r.Context(), func() bool {
		_, err := s.Sandboxes.Get(r.Context(), ref)
		return !fault.Is(err, fault.NotFound)
	})
}
