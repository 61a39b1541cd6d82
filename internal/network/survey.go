package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"bulkhead/internal/addressing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Survey is what a network holds, as the kernel reports it.
type Survey struct {
	// Devices, Addresses and Routes are all there are, in lines as ip(8) has
	// them.
	Devices, Addresses, Routes []string
	// Sockets are those that somebody listens at: "tcp 10.11.0.1:53".
	Sockets []string
	// Rules are those of nftables, each with its chain.
	Rules []string
	// Differences are what is not as Open makes it and the daemon serves it.
	Differences []string
}

// Survey asks the kernel what is in the network now.
func (l *Link) Survey() (s Survey, err error) {
	err = l.do(func() (err error) {
		if s, err = look(); err != nil {
			return fmt.Errorf("survey network: %w", err)
		}
		must, err := intended()
		if err != nil {
			return err
		}
		forwards, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
		if err == nil && strings.TrimSpace(string(forwards)) != "0" {
			s.Differences = append(s.Differences, "it forwards packets")
		}
		s.compare(must)
		return err
	})
	return s, err
}

// look reads all but the differences. It runs inside the namespace.
func look() (s Survey, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return s, err
	}
	for _, l := range links {
		a := l.Attrs()
		s.Devices = append(s.Devices, strings.TrimSpace(a.Name+" "+a.HardwareAddr.String()))
		addresses, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return s, err
		}
		for _, at := range addresses {
			s.Addresses = append(s.Addresses, at.IPNet.String()+" dev "+a.Name)
		}
	}
	if s.Routes, err = routes(links); err != nil {
		return s, err
	}
	if s.Sockets, err = listening(); err != nil {
		return s, err
	}
	s.Rules, err = loadedRules()
	return s, err
}

// routes lists those to somewhere else than this end.
func routes(links []netlink.Link) (all []string, err error) {
	found, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, err
	}
	for _, r := range found {
		if r.Type == unix.RTN_LOCAL || r.Type == unix.RTN_BROADCAST {
			continue
		}
		to, dev := "default", fmt.Sprint(r.LinkIndex)
		if r.Dst != nil {
			to = r.Dst.String()
		}
		if i := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Index == r.LinkIndex }); i >= 0 {
			dev = links[i].Attrs().Name
		}
		line := to + " dev " + dev
		if r.Gw != nil {
			line += " via " + r.Gw.String()
		}
		all = append(all, line)
	}
	return all, nil
}

// listening lists the sockets that take in something from anybody.
func listening() (all []string, err error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		streams, e := netlink.SocketDiagTCP(family)
		packets, e2 := netlink.SocketDiagUDP(family)
		err = errors.Join(err, e, e2)
		for _, s := range streams {
			if s.State == netlink.TCP_LISTEN {
				all = append(all, "tcp "+at(s))
			}
		}
		for _, s := range packets {
			all = append(all, "udp "+at(s))
		}
	}
	slices.Sort(all)
	return all, err
}

func at(s *netlink.Socket) string {
	a, _ := netip.AddrFromSlice(s.ID.Source) // the kernel's, of 4 or 16 bytes
	return netip.AddrPortFrom(a.Unmap(), s.ID.SourcePort).String()
}

// intended is what Survey must find.
func intended() (s Survey, err error) {
	mac, err := net.ParseMAC(addressing.GatewayMAC)
	if err != nil {
		return s, err
	}
	gateway := addressing.Gateway()
	for _, port := range []uint16{namesPort, proxyPort} {
		s.Sockets = append(s.Sockets, "tcp "+netip.AddrPortFrom(gateway, port).String())
	}
	s.Sockets = append(s.Sockets, "udp "+netip.AddrPortFrom(gateway, namesPort).String())
	s.Devices = []string{"lo", TapName + " " + mac.String()}
	s.Addresses = []string{"127.0.0.1/8 dev lo", netip.PrefixFrom(gateway, addressing.Link().Bits()).String() + " dev " + TapName}
	s.Routes = []string{addressing.Link().String() + " dev " + TapName}
	s.Rules, err = intendedRules()
	return s, err
}

// compare notes where s is not what it must be.
func (s *Survey) compare(must Survey) {
	for _, kind := range []struct {
		name      string
		got, want []string
	}{
		{"device", s.Devices, must.Devices}, {"address", s.Addresses, must.Addresses}, {"route", s.Routes, must.Routes},
		{"socket", s.Sockets, must.Sockets}, {"rule", s.Rules, must.Rules},
	} {
		for _, line := range kind.got {
			if !slices.Contains(kind.want, line) {
				s.Differences = append(s.Differences, fmt.Sprintf("its network has the %s that must not be: %s", kind.name, line))
			}
		}
		for _, line := range kind.want {
			if !slices.Contains(kind.got, line) {
				s.Differences = append(s.Differences, fmt.Sprintf("its network lacks the %s: %s", kind.name, line))
			}
		}
	}
	if len(s.Differences) == 0 && !slices.Equal(s.Rules, must.Rules) {
		s.Differences = append(s.Differences, "its network's rules are in another order")
	}
}

// loadedRules reads the rules of every table back.
func loadedRules() (all []string, err error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, err
	}
	for _, c := range chains {
		loaded, err := conn.GetRules(c.Table, c)
		if err != nil {
			return nil, err
		}
		all = append(all, chainText(c))
		for _, r := range loaded {
			all = append(all, chainName(c)+": "+ruleText(r.Exprs))
		}
	}
	return all, nil
}
