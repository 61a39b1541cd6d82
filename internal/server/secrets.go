package server

import (
	"net/http"

	"bulkhead/client"
	"bulkhead/internal/server/input"
)

func (s *Server) secretRoutes() {
	s.call("GET /secrets", 200, func(r *http.Request) (any, error) { return orEmpty(s.Secrets.Secrets(r.Context())) })
	s.call("PUT /secrets/{name}", 204, func(r *http.Request) (any, error) {
		var req client.SecretRequest
		if err := input.JSON(r, &req); err != nil {
			return nil, err
		}
		return nil, s.Secrets.SetSecret(r.Context(), r.PathValue("name"), req.Value)
	})
	s.call("DELETE /secrets/{name}", 204, func(r *http.Request) (any, error) {
		return nil, s.Secrets.RemoveSecret(r.Context(), r.PathValue("name"))
	})
}
