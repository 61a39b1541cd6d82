package policy

import (
	"fmt"
	"net/netip"
)

// special is a range of addresses that are not an ordinary host of the
// Internet.
type special struct {
	in  netip.Prefix
	why string
}

// specials are the IANA registries of IPv4 and IPv6 special-purpose addresses
// (RFC 6890, RFC 8190, and what each line names), those marked globally
// reachable included: they are infrastructure, no destination. Besides,
// multicast, deprecated ranges, and where clouds have their metadata services,
// each on its own so that no rule about a wider range opens it. The first range
// that matches counts.
var specials = []special{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network (RFC 791)"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private (RFC 1918)"},
	{netip.MustParsePrefix("100.100.100.200/32"), "a metadata service (Alibaba)"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared by a carrier's customers (RFC 6598)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback (RFC 1122)"},
	{netip.MustParsePrefix("169.254.169.254/32"), "a metadata service (link-local, RFC 3927)"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local (RFC 3927)"},
	{netip.MustParsePrefix("168.63.129.16/32"), "a metadata service (Azure)"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private (RFC 1918)"},
	{netip.MustParsePrefix("192.0.0.192/32"), "a metadata service (Oracle)"},
	{netip.MustParsePrefix("192.0.0.0/24"), "for protocols (RFC 6890)"},
	{netip.MustParsePrefix("192.0.2.0/24"), "for documentation (RFC 5737)"},
	{netip.MustParsePrefix("192.31.196.0/24"), "for AS112 (RFC 7535)"},
	{netip.MustParsePrefix("192.52.193.0/24"), "for multicast tunnels (RFC 7450)"},
	{netip.MustParsePrefix("192.88.99.0/24"), "a deprecated 6to4 relay (RFC 7526)"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private (RFC 1918)"},
	{netip.MustParsePrefix("192.175.48.0/24"), "for AS112 (RFC 7534)"},
	{netip.MustParsePrefix("198.18.0.0/15"), "for benchmarks (RFC 2544)"},
	{netip.MustParsePrefix("198.51.100.0/24"), "for documentation (RFC 5737)"},
	{netip.MustParsePrefix("203.0.113.0/24"), "for documentation (RFC 5737)"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast (RFC 5771)"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast (RFC 919)"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved (RFC 1112)"},

	{netip.MustParsePrefix("::1/128"), "loopback (RFC 4291)"},
	{netip.MustParsePrefix("::/128"), "unspecified (RFC 4291)"},
	{netip.MustParsePrefix("::/96"), "deprecated IPv4-compatible (RFC 4291)"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "local NAT64 (RFC 8215)"},
	{netip.MustParsePrefix("100::/64"), "discarded (RFC 6666)"},
	{netip.MustParsePrefix("100:0:0:1::/64"), "a dummy (RFC 9780)"},
	{netip.MustParsePrefix("2001::/23"), "for protocols (RFC 2928)"},
	{netip.MustParsePrefix("2001:db8::/32"), "for documentation (RFC 3849)"},
	{netip.MustParsePrefix("2620:4f:8000::/48"), "for AS112 (RFC 7534)"},
	{netip.MustParsePrefix("3fff::/20"), "for documentation (RFC 9637)"},
	{netip.MustParsePrefix("5f00::/16"), "segment routing (RFC 9602)"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), "a metadata service (Amazon)"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "a metadata service (Google)"},
	{netip.MustParsePrefix("fc00::/7"), "private (RFC 4193)"},
	{netip.MustParsePrefix("fe80::/10"), "link-local (RFC 4291)"},
	{netip.MustParsePrefix("fec0::/10"), "deprecated site-local (RFC 3879)"},
	{netip.MustParsePrefix("ff00::/8"), "multicast (RFC 4291)"},
}

// Ranges of IPv6 that stand for IPv4 addresses (RFC 6052, RFC 4380, RFC 3056),
// and all that IANA hands out to networks ("IPv6 Global Unicast Address
// Assignments").
var (
	nat64         = netip.MustParsePrefix("64:ff9b::/96")
	teredo        = netip.MustParsePrefix("2001::/32")
	sixToFour     = netip.MustParsePrefix("2002::/16")
	globalUnicast = netip.MustParsePrefix("2000::/3")
)

// Forbidden reports whether a is none of the addresses that a sandbox may
// reach without a rule that names them: private, loopback, link-local,
// metadata, multicast and all else that is special, and why in a few words.
// IPv6 that stands for IPv4, by whatever mapping, is judged as IPv4. The
// host's own public addresses are the dialer's to refuse.
func Forbidden(a netip.Addr) (why string, forbidden bool) {
	s, forbidden := forbid(plain(a))
	return s.why, forbidden
}

// forbid judges a plain address, and returns the forbidden range that it is in.
func forbid(a netip.Addr) (special, bool) {
	if !a.IsValid() {
		return special{why: "no address"}, true
	}
	alone := netip.PrefixFrom(a, a.BitLen())
	if inner := carried(a); len(inner) > 0 {
		for _, i := range inner {
			if s, forbidden := forbid(i); forbidden {
				return special{alone, fmt.Sprintf("a way to %s, %s", i, s.why)}, true
			}
		}
		return special{}, false
	}
	for _, s := range specials {
		if s.in.Contains(a) {
			return s, true
		}
	}
	if a.Is6() && !globalUnicast.Contains(a) {
		return special{alone, "not assigned to any network (RFC 4291)"}, true
	}
	return special{}, false
}

// carried returns the IPv4 addresses at which packets to a plain address end
// up. Teredo names its server and the client, whose bits are inverted (RFC
// 4380, section 4).
func carried(a netip.Addr) []netip.Addr {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[12:]))}
	case sixToFour.Contains(a):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	case teredo.Contains(a):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[4:8])), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})}
	}
	return nil
}
