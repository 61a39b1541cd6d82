package server

import (
	"errors"
	"io"
	"net/http"

	"bulkhead/internal/server/input"
	"bulkhead/internal/server/reply"
)

func (s *Server) parcelRoutes() {
	s.stream("GET /sandboxes/{ref}/export", s.export)
	s.stream("POST /sandboxes/import", s.importSandbox)
}

// export answers with a sandbox as a file.
func (s *Server) export(w http.ResponseWriter, r *http.Request) error {
	snapshot := r.URL.Query().Get("snapshot")
	if snapshot != "" {
		if _, err := parseRef("snapshot", snapshot); err != nil {
			return err
		}
	}
	return s.Parcels.Export(r.Context(), r.PathValue("ref"), snapshot, &late{w: w})
}

// late begins an answer with its first byte, so that an error before it is one.
type late struct {
	w     http.ResponseWriter
	begun bool
}

// Write implements io.Writer.
func (l *late) Write(p []byte) (int, error) {
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", "application/zstd")
		l.w.WriteHeader(http.StatusOK)
	}
	return l.w.Write(p)
}

// importSandbox reads a sandbox from its body. A body that breaks off is no
// whole one.
func (s *Server) importSandbox(w http.ResponseWriter, r *http.Request) error {
	as := r.URL.Query().Get("name")
	input.Steady(w, r, s.still)
	box, err := s.Parcels.Import(r.Context(), as, r.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) && r.Context().Err() != nil {
		err = r.Context().Err()
	}
	if err == nil {
		reply.JSON(w, http.StatusCreated, box)
	}
	return err
}
