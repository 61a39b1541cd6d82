package cli_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"bulkhead/client"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/local"
	"bulkhead/internal/server/ssh"
	sshkeys "bulkhead/internal/server/ssh/keyring"
)

// shells is the way into the world by SSH: real, but for the guests.
type shells struct {
	ring     *sshkeys.Ring
	server   *ssh.Server
	listener net.Listener
	info     client.SSHInfo
	api      *local.API
}

func openShells(dir string) (*shells, error) {
	host, err := sshkeys.HostKey(filepath.Join(dir, "host"))
	if err != nil {
		return nil, err
	}
	s := &shells{}
	if s.ring, err = sshkeys.Open(filepath.Join(dir, "keys"), time.Now); err != nil {
		return nil, err
	}
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	s.info.Address = s.listener.Addr().String()
	s.info.HostKey, s.info.Fingerprint = sshkeys.Describe(host.PublicKey())
	s.server = ssh.New(ssh.Options{
		HostKey: host, Keys: s.ring, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		As: func(team, _ string) ssh.Sandboxes {
			return s.api.As(func(ctx context.Context) context.Context {
				return auth.With(ctx, auth.Principal{Team: team, Scope: auth.Operate})
			})
		},
		Event: func(context.Context, string, string, map[string]string) {},
	})
	return s, nil
}

// serve serves until ctx ends; wait waits for that.
func (s *shells) serve(ctx context.Context, api http.Handler) (wait func() error) {
	s.api = local.New(api)
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(ctx, s.listener) }()
	return func() error { return errors.Join(<-served, s.api.Close()) }
}

func (s *shells) SSHInfo() client.SSHInfo { return s.info }

func (s *shells) SSHKeys(context.Context) (all []client.SSHKey, err error) {
	for _, k := range s.ring.List() {
		all = append(all, client.SSHKey{Name: k.Name, Team: k.Team, Fingerprint: k.Fingerprint(), AddedAt: k.Added})
	}
	return all, nil
}

func (s *shells) AddSSHKey(_ context.Context, req client.SSHKeyRequest) (client.SSHKey, error) {
	k, err := s.ring.Add("default", req.Name, req.Key)
	return client.SSHKey{Name: k.Name, Team: k.Team, Fingerprint: k.Fingerprint(), AddedAt: k.Added}, err
}

func (s *shells) RemoveSSHKey(_ context.Context, ref, _ string) error {
	_, err := s.ring.Remove("default", ref)
	return err
}
