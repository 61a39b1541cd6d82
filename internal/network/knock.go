package network

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Knock watches for packets to the guest until ctx ends. The channel is closed
// with the first. The packet itself is not taken: it waits in the tap for a
// machine that stands still, as those after it do.
func (l *Link) Knock(ctx context.Context) (<-chan struct{}, error) {
	var packets *os.File
	err := l.do(func() (err error) {
		packets, err = openPackets()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch for packets: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { packets.Close() })
	knocked := make(chan struct{})
	go func() {
		defer stop()
		defer packets.Close()
		if awaitOutgoing(packets) == nil && ctx.Err() == nil {
			close(knocked)
		}
	}()
	return knocked, nil
}

// openPackets opens a socket that is shown what passes the tap (packet(7)).
func openPackets() (*os.File, error) {
	tap, err := net.InterfaceByName(TapName)
	if err != nil {
		return nil, err
	}
	// What is sent is shown to sockets for all protocols only.
	all := bits.ReverseBytes16(unix.ETH_P_ALL)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "packets of "+TapName)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: tap.Index}); err != nil {
		f.Close()
		return nil, os.NewSyscallError("bind", err)
	}
	return f, nil
}

// awaitOutgoing returns nil once a packet is sent to the guest.
func awaitOutgoing(packets *os.File) error {
	raw, err := packets.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Read(func(fd uintptr) (done bool) {
		for {
			_, from, err := unix.Recvfrom(int(fd), nil, unix.MSG_TRUNC)
			if errors.Is(err, unix.EAGAIN) {
				return false
			}
			if link, ok := from.(*unix.SockaddrLinklayer); err != nil || ok && link.Pkttype == unix.PACKET_OUTGOING {
				failed = err
				return true
			}
		}
	})
	if err != nil {
		return err
	}
	return failed
}
