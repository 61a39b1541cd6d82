// Package shell opens the way into sandboxes by SSH: the host's key, the keys of
// people, and the server that lets them in. It shows them in the words of the
// wire.
//
// shell must not know sandboxes: what somebody does goes through the API, as
// whoever they are. A Door is safe for concurrent use.
package shell

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"bulkhead/client"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/ssh"
	"bulkhead/internal/server/ssh/keyring"
)

// Options are what a Door needs.
type Options struct {
	StateDir string
	// Address is where people come in; "" for nowhere, although keys can be added.
	Address string
	// As returns the API for somebody.
	As    func(auth.Principal) ssh.Sandboxes
	Event func(ctx context.Context, typ, sandboxID string, fields map[string]string)
	Clock func() time.Time
	Log   *slog.Logger
}

// Door is where people come in. It is the server's SSH.
type Door struct {
	ring     *keyring.Ring
	server   *ssh.Server
	listener net.Listener // nil without an address
	info     client.SSHInfo
	event    func(ctx context.Context, typ, sandboxID string, fields map[string]string)
}

func hostKey(stateDir string) string { return filepath.Join(stateDir, "ssh_host_key") }

// Fingerprint is that of the host's key; "" if it was not made yet, or is not for
// us to read.
func Fingerprint(stateDir string) string {
	f, err := keyring.Fingerprint(hostKey(stateDir))
	if err != nil {
		return ""
	}
	return f
}

// Open reads the keys, makes the host's if there is none, and listens. Whoever
// calls it calls Serve or Close.
func Open(o Options) (*Door, error) {
	key, err := keyring.HostKey(hostKey(o.StateDir))
	if err != nil {
		return nil, err
	}
	d := &Door{event: o.Event}
	if d.ring, err = keyring.Open(filepath.Join(o.StateDir, "ssh_keys.json"), o.Clock); err != nil {
		return nil, err
	}
	d.server = ssh.New(ssh.Options{
		HostKey: key, Keys: d.ring, Event: o.Event, Clock: o.Clock, Log: o.Log,
		As: func(team, fingerprint string) ssh.Sandboxes {
			return o.As(auth.Principal{Team: team, Scope: auth.Operate, Key: "ssh " + fingerprint})
		},
	})
	d.info.HostKey, d.info.Fingerprint = keyring.Describe(key.PublicKey())
	if o.Address == "" {
		return d, nil
	}
	if d.listener, err = net.Listen("tcp", o.Address); err != nil {
		return nil, fmt.Errorf("listen for SSH: %w", err)
	}
	d.info.Address = d.listener.Addr().String()
	return d, nil
}

// Close closes a door by which nobody has come.
func (d *Door) Close() error {
	if d.listener == nil {
		return nil
	}
	return d.listener.Close()
}

// Serve lets people in until ctx ends, and closes the door.
func (d *Door) Serve(ctx context.Context) error {
	if d.listener == nil {
		return nil
	}
	return d.server.Serve(ctx, d.listener)
}
