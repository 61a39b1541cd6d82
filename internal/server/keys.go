package server

import (
	"net/http"

	"bulkhead/client"
	"bulkhead/internal/server/input"
)

func (s *Server) keyRoutes() {
	s.call("GET /keys", 200, func(r *http.Request) (any, error) { return orEmpty(s.Keys.Keys(r.Context())) })
	s.call("POST /keys", 201, func(r *http.Request) (any, error) {
		var req client.KeyRequest
		if err := input.JSON(r, &req); err != nil {
			return nil, err
		}
		return s.Keys.CreateKey(r.Context(), req)
	})
	s.call("DELETE /keys/{name}", 204, func(r *http.Request) (any, error) {
		return nil, s.Keys.RevokeKey(r.Context(), r.PathValue("name"))
	})
}
