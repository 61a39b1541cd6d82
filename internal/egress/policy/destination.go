package policy

import (
	"net/netip"
	"strconv"
	"strings"

	"bulkhead/internal/fault"
)

// ParseDestination reads "name:port" or "address:port".
func ParseDestination(s string) (Destination, error) {
	name, number := SplitDestination(s)
	port, err := strconv.ParseUint(number, 10, 16)
	if err == nil && port != 0 {
		if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
			return Destination{Addr: a, Port: uint16(port)}, nil
		}
		name = strings.ToLower(name)
		if name != "" && len(name) <= maxDestination && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_") == "" {
			return Destination{Name: name, Port: uint16(port)}, nil
		}
	}
	return Destination{}, fault.New(fault.Invalid, "%.80q is no name with a port from 1 to 65535", s).Hint("write NAME:PORT")
}

// maxDestination is the length of the longest name (RFC 1035, section 2.3.4).
const maxDestination = 255

// SplitDestination takes the ports off "name:443", "*.name:80,443",
// "10.0.0.0/8:5432" or "[fd00::1]:80"; "" if there are none. "fd00::/8" and
// "fd00::1" have none.
func SplitDestination(s string) (target, ports string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || i == len(s)-1 || strings.Trim(s[i+1:], "0123456789,-") != "" {
		return s, ""
	}
	if target = s[:i]; strings.Contains(target, ":") && !strings.ContainsAny(target, "]/") {
		return s, "" // an address of IPv6
	}
	return target, s[i+1:]
}
