package network_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/addressing"
	"bulkhead/internal/network"
	"bulkhead/test/leak"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// patience turns a hang into a failure; nothing is measured by it.
const patience = 20 * time.Second

func open(t *testing.T) (*network.Link, *os.File, string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making namespaces needs root")
	}
	leak.Check(t)
	path := filepath.Join(t.TempDir(), "netns")
	l, tap, err := network.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), tap.Close(), network.Remove(path)); err != nil {
			t.Error(err)
		}
	})
	return l, tap, path
}

// guest is a namespace on the other end of a tap, as a VMM would have it.
type guest struct {
	t  *testing.T
	ns *os.File
}

func newGuest(t *testing.T, host *os.File) *guest {
	t.Helper()
	g := &guest{t: t}
	var tap *os.File
	onThread(t, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		var err error
		if g.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		if tap, err = network.OpenTap(); err != nil {
			return err
		}
		return configure()
	})
	go io.Copy(tap, host) // one read is one packet
	go io.Copy(host, tap)
	t.Cleanup(func() {
		if err := errors.Join(tap.Close(), g.ns.Close()); err != nil {
			t.Error(err)
		}
	})
	return g
}

func configure() error {
	dev, err := netlink.LinkByName(network.TapName)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(addressing.MAC)
	if err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: addressing.Guest().AsSlice(), Mask: net.CIDRMask(30, 32)}}
	return errors.Join(
		netlink.LinkSetHardwareAddr(dev, mac), netlink.AddrAdd(dev, address), netlink.LinkSetUp(dev),
		netlink.RouteAdd(&netlink.Route{LinkIndex: dev.Attrs().Index, Gw: addressing.Gateway().AsSlice()}),
	)
}

func onThread(t *testing.T, f func() error) {
	t.Helper()
	err := make(chan error)
	go func() {
		runtime.LockOSThread()
		err <- f()
	}()
	if err := <-err; err != nil {
		t.Fatal(err)
	}
}

// do runs f in the guest.
func (g *guest) do(f func() error) {
	g.t.Helper()
	onThread(g.t, func() error {
		if err := unix.Setns(int(g.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

func TestStreamsKeepTheirDestination(t *testing.T) {
	l, tap, _ := open(t)
	streams, err := l.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer streams.Close()
	g := newGuest(t, tap)
	for _, to := range []string{"198.18.0.7:443", "8.8.8.8:80", "10.11.0.1:22", "169.254.169.254:80", "10.11.0.1:1"} {
		t.Run(to, func(t *testing.T) {
			want := netip.MustParseAddrPort(to)
			g.do(func() error {
				conn, err := net.DialTimeout("tcp", to, patience)
				if err != nil {
					return err
				}
				return conn.Close()
			})
			conn, err := streams.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if got, err := network.Original(conn); err != nil || got != want {
				t.Errorf("meant for %v, %v", got, err)
			}
		})
	}
}

func TestNamesAreAskedOfTheDaemon(t *testing.T) {
	l, tap, _ := open(t)
	packets, streams, err := l.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	defer streams.Close()
	g := newGuest(t, tap)
	for _, server := range []string{"10.11.0.1:53", "8.8.8.8:53"} {
		g.do(func() error {
			c, err := net.Dial("udp", server)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Write([]byte("who")); err != nil {
				return err
			}
			b := make([]byte, 9)
			n, from, err := packets.ReadFrom(b)
			if err != nil || string(b[:n]) != "who" {
				t.Errorf("got %q, %v", b[:n], err)
				return err
			}
			if _, err := packets.WriteTo([]byte("me"), from); err != nil {
				return err
			}
			// The answer comes from the address that was asked.
			if n, err = c.Read(b); err != nil || string(b[:n]) != "me" {
				t.Errorf("answer %q, %v", b[:n], err)
			}
			return nil
		})
		g.do(func() error {
			c, err := net.DialTimeout("tcp", server, patience)
			if err != nil {
				return err
			}
			return c.Close()
		})
		conn, err := streams.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}

// What is neither is dropped, counted, and where it helps refused at once.
func TestAllElseIsDropped(t *testing.T) {
	l, tap, _ := open(t)
	g := newGuest(t, tap)
	send := func(network, to string) func() error {
		return func() error {
			c, err := net.Dial(network, to)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("anybody there?"))
			return err
		}
	}
	for _, tt := range []struct {
		reason string
		send   func() error
	}{
		{network.UDP, send("udp", "198.18.0.7:443")},
		{network.UDP, send("udp", "10.11.0.1:5353")},
		{network.ICMP, send("ip4:icmp", "8.8.8.8")},
		{network.Other, send("ip4:132", "8.8.8.8")}, // SCTP
		{network.IPv6, frame(unix.ETH_P_IPV6, addressing.GatewayMAC, make([]byte, 40))},
		{network.Other, frame(0x88b5, addressing.GatewayMAC, []byte("an experiment"))},    // IEEE 802, local experimental
		{network.Other, frame(unix.ETH_P_IP, "52:54:00:00:00:02", make([]byte, 20))},      // another machine's MAC
		{network.Spoofed, frame(unix.ETH_P_ARP, addressing.GatewayMAC, arp("10.11.0.1"))}, // the gateway's address
		{network.Spoofed, frame(unix.ETH_P_ARP, "ff:ff:ff:ff:ff:ff", arp("10.11.0.3"))},   // another machine's
		{network.Flood, func() error { return flood(3000) }},
		{network.Spoofed, func() error { return forge(t, "10.11.0.9") }},
		{network.Spoofed, func() error { return changeMAC(send("udp", "198.18.0.7:9")) }},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			before := dropped(t, l)[tt.reason]
			g.do(tt.send)
			eventually(t, "it is counted", func() bool { return dropped(t, l)[tt.reason] > before })
		})
	}
}

// forge sends a packet from an address that is not the guest's.
func forge(t *testing.T, from string) error {
	t.Helper()
	dev, err := netlink.LinkByName(network.TapName)
	if err != nil {
		return err
	}
	second := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(from), Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrAdd(dev, second); err != nil {
		return err
	}
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("udp", "198.18.0.7:53")
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("x"))
	return err
}

// frame sends one from the guest's MAC.
func frame(ethertype uint16, to string, body []byte) func() error {
	return func() error {
		dev, err := netlink.LinkByName(network.TapName)
		if err != nil {
			return err
		}
		mac, err := net.ParseMAC(to)
		if err != nil {
			return err
		}
		wire := ethertype<<8 | ethertype>>8
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(wire))
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		at := &unix.SockaddrLinklayer{Protocol: wire, Ifindex: dev.Attrs().Index, Halen: 6}
		copy(at.Addr[:], mac)
		return unix.Sendto(fd, body, 0, at)
	}
}

// flood asks for names from as many ports.
func flood(n int) error {
	for range n {
		c, err := net.Dial("udp", "198.18.0.7:53")
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("x"))
		if err = errors.Join(err, c.Close()); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
	}
	return nil
}

// arp says that an address is at the guest's MAC (RFC 826).
func arp(address string) []byte {
	mac, _ := net.ParseMAC(addressing.MAC)
	b := append([]byte{0, 1, 8, 0, 6, 4, 0, 2}, mac...)
	b = append(b, net.ParseIP(address).To4()...)
	return append(b, make([]byte, 10)...)
}

func changeMAC(then func() error) error {
	dev, err := netlink.LinkByName(network.TapName)
	if err != nil {
		return err
	}
	other, err := net.ParseMAC("52:54:00:00:00:02")
	if err != nil {
		return err
	}
	// The daemon answers no question for it, so it is told where to send.
	gateway := &netlink.Neigh{
		LinkIndex: dev.Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
		IP: addressing.Gateway().AsSlice(), HardwareAddr: net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	}
	return errors.Join(netlink.LinkSetHardwareAddr(dev, other), netlink.NeighSet(gateway), then())
}

func dropped(t *testing.T, l *network.Link) map[string]uint64 {
	t.Helper()
	d, err := l.Dropped()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it never came that %s", what)
		}
	}
}

// What is in a network is told from the kernel, and what is too much or missing.
func TestSurvey(t *testing.T) {
	l, _, path := open(t)
	packets, names, err := l.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	defer names.Close()
	streams, err := l.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer streams.Close()
	s, err := l.Survey()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Devices) != 2 || len(s.Routes) != 1 || len(s.Sockets) != 3 || len(s.Rules) < 15 || len(s.Differences) > 0 {
		t.Errorf("survey %+v", s)
	}
	onThread(t, func() error { return tamper(path) })
	if s, err = l.Survey(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"device that must not be: spy", "address that must not be: 10.9.9.9/32", "route that must not be: 0.0.0.0/0 dev spy",
		"rule that must not be: inet bulkhead", "lacks the rule: inet bulkhead perimeter", "it forwards packets"} {
		if !strings.Contains(strings.Join(s.Differences, "\n"), want) {
			t.Errorf("%q is not among %q", want, s.Differences)
		}
	}
}

// tamper makes holes into a network.
func tamper(path string) error {
	ns, err := os.Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	spy := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "spy"}, Mode: netlink.TUNTAP_MODE_TUN}
	if err := netlink.LinkAdd(spy); err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 9, 9, 9), Mask: net.CIDRMask(32, 32)}}
	return errors.Join(
		netlink.AddrAdd(spy, address), netlink.LinkSetUp(spy),
		netlink.RouteAdd(&netlink.Route{LinkIndex: spy.Attrs().Index, Gw: addressing.Guest().AsSlice(), Flags: int(netlink.FLAG_ONLINK)}),
		network.WeakenPerimeter(), os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
	)
}

func TestDialsIntoTheGuest(t *testing.T) {
	l, tap, _ := open(t)
	g := newGuest(t, tap)
	var in net.Listener
	g.do(func() (err error) {
		in, err = net.Listen("tcp4", addressing.Guest().String()+":8080")
		return err
	})
	defer in.Close()
	conn, err := l.Dial(t.Context(), 8080)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if conn, err = in.Accept(); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := l.Dial(t.Context(), 8081); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a port without a service: %v", err)
	}
}

// A network outlives whoever made it, and is gone when it is removed.
func TestAttach(t *testing.T) {
	l, _, path := open(t)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := network.Attach(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := dropped(t, again); len(d) != 6 {
		t.Errorf("counters %v", d)
	}
	if err := errors.Join(again.Close(), network.Remove(path), network.Remove(path)); err != nil {
		t.Fatal(err)
	}
	if _, err := network.Attach(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after it was removed: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := network.Attach(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a plain file: %v", err)
	}
}
