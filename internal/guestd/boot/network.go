package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"bulkhead/internal/addressing"

	"golang.org/x/sys/unix"
)

// joinNetwork gives the network card its address and the way out, before any
// program of the image runs. A machine without a card has none.
func joinNetwork() error {
	if _, err := os.Stat("/sys/class/net/" + addressing.Device); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// There is no IPv6 behind it; without an address programs do not try.
	off := "/proc/sys/net/ipv6/conf/" + addressing.Device + "/disable_ipv6"
	if err := os.WriteFile(off, []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	mask := netip.AddrFrom4([4]byte(net.CIDRMask(addressing.Link().Bits(), 32)))
	for _, step := range []struct {
		what    string
		request uint
		address netip.Addr
	}{
		{"set address", unix.SIOCSIFADDR, addressing.Guest()},
		{"set netmask", unix.SIOCSIFNETMASK, mask},
	} {
		if err := setAddress(step.request, step.address); err != nil {
			return fmt.Errorf("%s of %s: %w", step.what, addressing.Device, err)
		}
	}
	if err := raise(addressing.Device); err != nil {
		return err
	}
	return addDefaultRoute(addressing.Gateway())
}

// setAddress makes a request of netdevice(7) that has an address.
func setAddress(request uint, address netip.Addr) error {
	return onSocket(addressing.Device, func(sock int, card *unix.Ifreq) error {
		if err := card.SetInet4Addr(address.AsSlice()); err != nil {
			return err
		}
		return unix.IoctlIfreq(sock, request, card)
	})
}

// raise brings up a device. The kernel gives lo its addresses (netdevice(7)).
func raise(device string) error {
	err := onSocket(device, func(sock int, card *unix.Ifreq) error {
		card.SetUint16(unix.IFF_UP)
		return unix.IoctlIfreq(sock, unix.SIOCSIFFLAGS, card)
	})
	if err != nil {
		return fmt.Errorf("bring up %s: %w", device, err)
	}
	return nil
}

func onSocket(device string, do func(sock int, card *unix.Ifreq) error) error {
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(sock)
	card, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	return do(sock, card)
}

// addDefaultRoute asks the kernel for a route by rtnetlink(7).
func addDefaultRoute(gateway netip.Addr) error {
	sock, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(sock)
	if err := unix.Sendto(sock, routeRequest(gateway), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask for route: %w", err)
	}
	answer := make([]byte, 4<<10)
	n, _, err := unix.Recvfrom(sock, answer, 0)
	if err != nil {
		return fmt.Errorf("ask for route: %w", err)
	}
	// A header of 16 bytes, then the error as a negative number.
	if n < 20 {
		return errors.New("ask for route: short answer")
	}
	if errno := int32(binary.NativeEndian.Uint32(answer[16:])); errno != 0 {
		return fmt.Errorf("add route: %w", unix.Errno(-errno))
	}
	return nil
}

// routeRequest is a message with a struct nlmsghdr, a struct rtmsg, and the
// gateway as its only attribute.
func routeRequest(gateway netip.Addr) []byte {
	const size = 16 + 12 + 8
	b := binary.NativeEndian.AppendUint32(nil, size)
	b = binary.NativeEndian.AppendUint16(b, unix.RTM_NEWROUTE)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	b = append(b, make([]byte, 8)...) // sequence number, port
	b = append(b, unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST)
	b = append(b, make([]byte, 4)...) // flags
	b = binary.NativeEndian.AppendUint16(b, 8)
	b = binary.NativeEndian.AppendUint16(b, unix.RTA_GATEWAY)
	return append(b, gateway.AsSlice()...)
}
