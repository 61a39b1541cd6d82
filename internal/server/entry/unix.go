// Package entry is where connections come from: the unix socket, for root and
// the daemon's own user, and TCP ports, for whoever has a key, in the clear on
// loopback only and by TLS anywhere.
//
// It gives listeners and knows nothing of what is served on them.
package entry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"syscall"

	"bulkhead/internal/fault"
)

// Unix makes a unix socket that only its owner may open (0600), and from which
// connections of root and of the daemon's own user are accepted, by the peer
// credentials, whatever the mode of its file. A socket
// that nobody answers on any more is replaced; one that is answered is a
// fault.Exists error, and a file that is no socket is left alone. Closing the
// listener removes the socket.
func Unix(path string, log *slog.Logger) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// Whoever connects before this line is judged by its user all the same.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect socket: %w", err), l.Close())
	}
	return peers{UnixListener: l, log: log}, nil
}

func removeStale(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for socket: %w", err)
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return fault.New(fault.Exists, "%s exists and is not a socket", path).
			Hint("remove it, or choose another --socket")
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		return errors.Join(fault.New(fault.Exists, "somebody answers on socket %s", path).
			Hint("end that daemon first, or choose another --socket"), c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("look for socket: %w", err)
	}
	return os.Remove(path)
}

// peers accepts connections of root and of the daemon's own user only.
type peers struct {
	*net.UnixListener
	log *slog.Logger
}

// Accept implements net.Listener.
func (p peers) Accept() (net.Conn, error) {
	for {
		c, err := p.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(c)
		if err == nil && (uid == 0 || uid == uint32(os.Geteuid())) {
			return c, nil
		}
		if err == nil {
			err = fmt.Errorf("user %d may not use the API", uid)
		}
		p.log.WarnContext(context.Background(), "connection refused", "err", errors.Join(err, c.Close()))
	}
}

// peerUID returns the user that connected, as the kernel recorded it then.
func peerUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("read peer credentials: %w", err)
	}
	return cred.Uid, nil
}
