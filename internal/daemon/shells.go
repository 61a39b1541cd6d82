package daemon

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"bulkhead/client"
	"bulkhead/internal/config"
	"bulkhead/internal/daemon/front"
	"bulkhead/internal/doctor"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/local"
	"bulkhead/internal/server/ssh"
	"bulkhead/internal/server/ssh/keyring"
)

// shells is the SSH server with all that it has. Without an address there is no
// listener, but keys can be added.
type shells struct {
	server   *ssh.Server
	listener net.Listener
}

// sshHostKey is where the host's key is.
func sshHostKey(c config.Config) string { return filepath.Join(c.StateDir, "ssh_host_key") }

// sshChecks tells the fingerprint of the host's key, once there is one that may
// be read.
func sshChecks(c config.Config) []doctor.Check {
	fingerprint, err := keyring.Fingerprint(sshHostKey(c))
	if err != nil {
		return nil
	}
	detail := "served at " + c.SSH
	if c.SSH == "" {
		detail = "not served"
	}
	return []doctor.Check{{Name: "ssh", Status: doctor.OK, Detail: detail + "; the host's key is " + fingerprint}}
}

// shells opens what SSH needs, and has front show it. asks leads to the API once
// somebody comes in.
func (d *Daemon) shells(f *front.Front, asks func() *local.API) (*shells, error) {
	key, err := keyring.HostKey(sshHostKey(d.Config))
	if err != nil {
		return nil, err
	}
	ring, err := keyring.Open(filepath.Join(d.Config.StateDir, "ssh_keys.json"), d.Clock)
	if err != nil {
		return nil, err
	}
	s := &shells{}
	s.server = ssh.New(ssh.Options{
		HostKey: key, Keys: ring, Event: f.Events.Append, Clock: d.Clock, Log: d.Log,
		As: func(team, fingerprint string) ssh.Sandboxes {
			p := auth.Principal{Team: team, Scope: auth.Operate, Key: "ssh " + fingerprint}
			return asks().As(as(p))
		},
	})
	line, fingerprint := keyring.Describe(key.PublicKey())
	f.Shells = &front.Shells{Ring: ring, Drop: s.server.Drop, Info: client.SSHInfo{HostKey: line, Fingerprint: fingerprint}}
	if d.Config.SSH == "" {
		return s, nil
	}
	if s.listener, err = net.Listen("tcp", d.Config.SSH); err != nil {
		return nil, fmt.Errorf("listen for SSH: %w", err)
	}
	f.Shells.Info.Address = s.listener.Addr().String()
	return s, nil
}

// serve lets people in until ctx ends. It returns a function that waits for the
// end of that.
func (s *shells) serve(ctx context.Context) (wait func() error) {
	if s.listener == nil {
		return func() error { return nil }
	}
	ended := make(chan error, 1)
	go func() { ended <- s.server.Serve(ctx, s.listener) }()
	return func() error { return <-ended }
}

// close closes a listener that serves nobody.
func (s *shells) close() error {
	if s.listener == nil {
		return nil
	}
	return s.listener.Close()
}
