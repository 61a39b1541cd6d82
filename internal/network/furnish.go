package network

import (
	"errors"
	"fmt"
	"net"
	"os"

	"bulkhead/internal/addressing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// furnish makes everything in a new namespace and returns the tap. It runs
// inside it.
func furnish() (tap *os.File, err error) {
	// Before there is any device that could carry a packet.
	for path, value := range map[string]string{
		"ipv6/conf/all/disable_ipv6":     "1",
		"ipv6/conf/default/disable_ipv6": "1",
		"ipv4/ip_forward":                "0",
		"ipv4/conf/all/rp_filter":        "1",
		"ipv4/conf/all/accept_redirects": "0",
		"ipv4/conf/all/send_redirects":   "0",
	} {
		err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0)
		if err != nil && !os.IsNotExist(err) { // a kernel without IPv6
			return nil, err
		}
	}
	if err := set(packetRules); err != nil {
		return nil, fmt.Errorf("set rules: %w", err)
	}
	if tap, err = openTap(); err != nil {
		return nil, fmt.Errorf("make tap: %w", err)
	}
	err = set(frameRules)
	if err != nil {
		err = fmt.Errorf("set rules about frames: %w", err)
	} else {
		err = raise()
	}
	if err != nil {
		return nil, errors.Join(err, tap.Close())
	}
	return tap, nil
}

// openTap makes the tap and returns what its packets go through. The device
// lives as long as somebody has that open.
func openTap() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	req, err := unix.NewIfreq(TapName)
	if err != nil {
		return nil, err
	}
	// With a header in front of each packet the VMM can leave checksums and
	// segmentation to whoever needs them (linux/if_tun.h).
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("TUNSETIFF", err)
	}
	return os.NewFile(uintptr(fd), TapName), nil
}

// raise gives the devices their addresses and switches them on.
func raise() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	tap, err := netlink.LinkByName(TapName)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(addressing.MAC)
	if err != nil {
		return err
	}
	own, err := net.ParseMAC(addressing.GatewayMAC)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetHardwareAddr(tap, own); err != nil {
		return fmt.Errorf("set MAC: %w", err)
	}
	bits := addressing.Link().Bits()
	address := &netlink.Addr{IPNet: &net.IPNet{IP: addressing.Gateway().AsSlice(), Mask: net.CIDRMask(bits, 32)}}
	if err := netlink.AddrAdd(tap, address); err != nil {
		return fmt.Errorf("add address: %w", err)
	}
	for _, dev := range []netlink.Link{lo, tap} {
		if err := netlink.LinkSetUp(dev); err != nil {
			return fmt.Errorf("switch on %s: %w", dev.Attrs().Name, err)
		}
	}
	// The guest is known and cannot say that it is somebody else.
	return netlink.NeighSet(&netlink.Neigh{
		LinkIndex: tap.Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
		IP: addressing.Guest().AsSlice(), HardwareAddr: mac,
	})
}
