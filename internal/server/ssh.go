package server

import (
	"context"
	"net/http"

	"bulkhead/client"
	"bulkhead/internal/server/input"
)

// SSH is the way into sandboxes by SSH (package ssh): where, and whose keys are
// good. Keys are those of the teams that who is asking sees.
type SSH interface {
	SSHInfo() client.SSHInfo
	SSHKeys(ctx context.Context) ([]client.SSHKey, error)
	AddSSHKey(ctx context.Context, req client.SSHKeyRequest) (client.SSHKey, error)
	// RemoveSSHKey removes a key by its name or fingerprint; team is "" unless
	// several have it.
	RemoveSSHKey(ctx context.Context, ref, team string) error
}

func (s *Server) sshRoutes() {
	s.call("GET /ssh", 200, func(*http.Request) (any, error) { return s.SSH.SSHInfo(), nil })
	s.call("GET /ssh/keys", 200, func(r *http.Request) (any, error) { return orEmpty(s.SSH.SSHKeys(r.Context())) })
	s.call("POST /ssh/keys", 201, func(r *http.Request) (any, error) {
		var req client.SSHKeyRequest
		if err := input.JSON(r, &req); err != nil {
			return nil, err
		}
		return s.SSH.AddSSHKey(r.Context(), req)
	})
	s.call("DELETE /ssh/keys/{key}", 204, func(r *http.Request) (any, error) {
		return nil, s.SSH.RemoveSSHKey(r.Context(), r.PathValue("key"), r.URL.Query().Get("team"))
	})
}
