package server

import (
	"net/http"
	"strconv"

	"bulkhead/internal/duplex"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/reply"
)

// port connects a client to a port of a sandbox: the request's body is what it
// sends, the answer's what it receives (package duplex).
func (s *Server) port(w http.ResponseWriter, r *http.Request) error {
	if err := duplex.Prepare(w); err != nil {
		return err
	}
	ref := r.PathValue("ref")
	port, err := strconv.ParseUint(r.PathValue("port"), 10, 16)
	if err != nil || port == 0 {
		return fault.New(fault.Invalid, "%q is not a port from 1 to 65535", reply.OneLine(r.PathValue("port")))
	}
	conn, err := s.Ports.DialPort(r.Context(), ref, uint16(port))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	return duplex.Serve(w, r, conn)
}
