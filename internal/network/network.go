// Package network gives a machine a network with nothing in it: a namespace
// that holds lo and the machine's tap, no other device and no route out.
//
// Whatever the guest sends is either for one of two kinds of sockets that the
// daemon opens inside the namespace (names and TCP), or it is dropped and
// counted. There is no packet path to the host or to a neighbour that could be
// got wrong. All guests have the same addresses, so a restored machine fits
// into a new namespace as it is.
//
// A namespace is pinned by a mount, so it outlives the daemon together with
// its machine. network must not know policies or sandboxes. A Link is safe for
// concurrent use.
package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"

	"bulkhead/internal/addressing"
	"bulkhead/internal/unwind"

	"golang.org/x/sys/unix"
)

// TapName is the tap inside the namespace.
const TapName = "tap0"

// The ports of the daemon's sockets inside the namespace. All TCP goes to one
// of them, whatever it was meant for, and all DNS to the other.
const (
	namesPort = 53
	proxyPort = 1
)

// Link is the network of one machine.
type Link struct {
	path string

	mu sync.Mutex
	ns *os.File // guarded by mu; nil once closed
}

// Open makes the namespace of a machine that is about to start, pinned at
// path, and its tap: the device lives as long as somebody has that open. The
// caller owns both. What was pinned there before is given up. On error nothing
// is left.
func Open(ctx context.Context, path string) (l *Link, tap *os.File, err error) {
	if err := Remove(path); err != nil {
		return nil, nil, err
	}
	var undo unwind.Stack
	defer undo.OnError(ctx, &err)
	undo.Add("unpin network", func(context.Context) error { return Remove(path) })
	if err := pin(path); err != nil {
		return nil, nil, fmt.Errorf("make network namespace: %w", err)
	}
	if l, err = Attach(path); err != nil {
		return nil, nil, err
	}
	undo.Add("close network", func(context.Context) error { return l.Close() })
	err = l.do(func() (err error) {
		tap, err = furnish()
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("set up network: %w", err)
	}
	return l, tap, nil
}

// Attach takes over the network that an earlier process of ours made. It is
// fs.ErrNotExist if there is none.
func Attach(path string) (*Link, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	if st.Type != unix.NSFS_MAGIC {
		return nil, &os.PathError{Op: "open namespace", Path: path, Err: fs.ErrNotExist}
	}
	ns, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &Link{path: path, ns: ns}, nil
}

// Remove gives up the network that is pinned at path, whoever made it. It ends
// with the last process that uses it. Finding none is no error.
func Remove(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // nothing is mounted there any more
		}
		if err != nil {
			return &os.PathError{Op: "unmount", Path: path, Err: err}
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// pin makes a namespace and mounts it at path.
func pin(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
}

// onThread runs f on a thread of its own, which ends with it: whatever f has
// done to it, nobody else will run on it.
func onThread(f func() error) error {
	err := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		err <- f()
	}()
	return <-err
}

// do runs f inside the namespace.
func (l *Link) do(f func() error) error {
	return onThread(func() error {
		if err := l.enter(); err != nil {
			return err
		}
		return f()
	})
}

// enter brings this thread into the namespace. It holds the lock meanwhile: the
// number of a file that is closed may be another machine's at once.
func (l *Link) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ns == nil {
		return net.ErrClosed
	}
	if err := unix.Setns(int(l.ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace: %w", err)
	}
	return nil
}

// Names opens the sockets at which the guest asks for names.
func (l *Link) Names(ctx context.Context) (packets net.PacketConn, streams net.Listener, err error) {
	address := netip.AddrPortFrom(addressing.Gateway(), namesPort).String()
	err = l.do(func() (err error) {
		var c net.ListenConfig
		if packets, err = c.ListenPacket(ctx, "udp4", address); err != nil {
			return err
		}
		if streams, err = c.Listen(ctx, "tcp4", address); err != nil {
			return errors.Join(err, packets.Close())
		}
		return nil
	})
	return packets, streams, err
}

// Streams opens the socket to which all of the guest's TCP comes. Original
// says what a connection was meant for.
func (l *Link) Streams(ctx context.Context) (streams net.Listener, err error) {
	err = l.do(func() (err error) {
		// A guest that stands still answers no probe, and is not gone.
		c := net.ListenConfig{KeepAlive: -1}
		streams, err = c.Listen(ctx, "tcp4", netip.AddrPortFrom(addressing.Gateway(), proxyPort).String())
		return err
	})
	return streams, err
}

// Dial connects to a port of the guest.
func (l *Link) Dial(ctx context.Context, port uint16) (conn net.Conn, err error) {
	err = l.do(func() (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "tcp4", netip.AddrPortFrom(addressing.Guest(), port).String())
		return err
	})
	return conn, err
}

// Original returns where the guest wanted a connection to go.
func Original(conn net.Conn) (netip.AddrPort, error) {
	c, ok := conn.(*net.TCPConn)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%T has no original address", conn)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var to netip.AddrPort
	var asked error
	err = raw.Control(func(fd uintptr) { to, asked = original(int(fd)) })
	return to, errors.Join(err, asked)
}

// original asks connection tracking what an address was before it was
// redirected (SO_ORIGINAL_DST in linux/netfilter_ipv4.h). The answer is a
// sockaddr_in, which fits into the structure that is read here.
func original(fd int) (netip.AddrPort, error) {
	const soOriginalDst = 80
	m, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("ask for original address: %w", err)
	}
	b := m.Multiaddr // family (2), port (2), address (4)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3])), nil
}

// Close gives up our hold on the network; its pin stays for another Attach. Closing it again is no error.
func (l *Link) Close() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ns == nil {
		return nil
	}
	err = l.ns.Close()
	l.ns = nil
	return err
}
