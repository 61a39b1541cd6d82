package policy

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"bulkhead/internal/fault"
)

// hostName is what Normal says. Its last label is no number to inet_aton(3),
// which reads decimal, octal and hexadecimal, and fewer than four parts:
// whatever ends in one is an address to it.
var (
	hostName = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.|$))+$`)
	number   = regexp.MustCompile(`(^|\.)([0-9]+|0x[0-9a-f]*)$`)
)

// Normal returns a host name as policies compare it: lower case, no dot at
// its end. A name has labels of 1 to 63 letters, digits, hyphens and
// underscores, 253 bytes in all (RFC 1035, section 2.3.4; underscores occur).
// What a resolver might take for an address is none. The error is of kind
// fault.Invalid and quotes no more than a line of the name.
func Normal(name string) (string, error) {
	clean := strings.ToLower(strings.TrimSuffix(name, "."))
	switch {
	case strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }):
		return "", fault.New(fault.Invalid, "%s is not ASCII", quote(name)).
			Hint("write the name in punycode: xn--...")
	case len(clean) > 253 || strings.HasSuffix(clean, ".") || !hostName.MatchString(clean):
		return "", fault.New(fault.Invalid, "%s is not a host name", quote(name))
	case number.MatchString(clean):
		return "", fault.New(fault.Invalid, "%s is not a host name but an address", quote(name)).
			Hint("a rule about addresses has cidr instead of name")
	}
	return clean, nil
}

// parsePattern reads a name or "*." and one.
func parsePattern(text string) (string, error) {
	below, wild := strings.CutPrefix(text, "*.")
	if strings.Contains(below, "*") {
		return "", fault.New(fault.Invalid, "%s has a wildcard that is not a first label of its own", quote(text)).
			Hint(`"*.example.com" is every name below example.com; "default: public" is everything`)
	}
	name, err := Normal(below)
	if err == nil && wild {
		name = "*." + name
	}
	return name, err
}

// parseCIDR reads a range of addresses, or one address.
func parseCIDR(text string) (netip.Prefix, error) {
	c, err := netip.ParsePrefix(text)
	if a, e := netip.ParseAddr(text); e == nil && a.Zone() == "" {
		c, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil:
		return netip.Prefix{}, fault.New(fault.Invalid, "%s is not a range of addresses like 192.0.2.0/24", quote(text))
	case c.Addr().Is4In6():
		return netip.Prefix{}, fault.New(fault.Invalid, "%s is IPv4 in IPv6: write it as IPv4", quote(text))
	case c != c.Masked():
		return netip.Prefix{}, fault.New(fault.Invalid, "%s has bits below its mask: is it %s?", quote(text), c.Masked())
	}
	return c, nil
}

// ParsePorts reads ports and ranges of ports that commas separate:
// "443,8000-8999". The result is sorted and without overlap; nil for "". The
// error is of kind fault.Invalid.
func ParsePorts(text string) ([]PortRange, error) {
	if text == "" {
		return nil, nil
	}
	var ports []PortRange
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		low, high, ranged := strings.Cut(part, "-")
		if !ranged || low == "" {
			low, high = part, part
		}
		first, err := parsePort(low)
		if err != nil {
			return nil, err
		}
		last, err := parsePort(high)
		if err != nil {
			return nil, err
		}
		if first > last {
			return nil, fault.New(fault.Invalid, "%d-%d is no range: its end is before its beginning", first, last)
		}
		ports = append(ports, PortRange{first, last})
	}
	return joinPorts(ports)
}

// parsePort wants the number as people write it: whether 0443 is octal
// depends on whom one asks.
func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || text[0] == '0' {
		return 0, fault.New(fault.Invalid, "%s is not a port from 1 to 65535", quote(text))
	}
	return uint16(n), nil
}

// joinPorts sorts a copy of ports and joins those that touch.
func joinPorts(ports []PortRange) ([]PortRange, error) {
	var joined []PortRange
	ports = slices.SortedFunc(slices.Values(ports), func(a, b PortRange) int { return cmp.Compare(a.First, b.First) })
	for _, p := range ports {
		if n := len(joined); n > 0 && int(p.First) <= int(joined[n-1].Last)+1 {
			joined[n-1].Last = max(joined[n-1].Last, p.Last)
			continue
		}
		joined = append(joined, p)
	}
	if len(joined) > maxPorts {
		return nil, fault.New(fault.Invalid, "%d ports and ranges are too many: at most %d", len(joined), maxPorts)
	}
	return joined, nil
}

// unit is a unit of bytes; the largest that fits is used to write a number.
type unit struct {
	name  string
	bytes int64
}

var units = []unit{
	{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9},
	{"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"KB", 1e3}, {"B", 1}, {"", 1},
}

// parseSize reads a number of bytes with an optional unit, up to 1 PiB.
func parseSize(text string) (int64, error) {
	const most = 1 << 50
	digits := strings.TrimRight(text, "KMGTiB ")
	name := strings.TrimLeft(text[len(digits):], " ")
	i := slices.IndexFunc(units, func(u unit) bool { return u.name == name })
	n, err := strconv.ParseUint(digits, 10, 63)
	if i < 0 || err != nil || n == 0 || int64(n) > most/units[i].bytes {
		return 0, fault.New(fault.Invalid, "%s is not a size from 1B to 1024TiB, like 20MB", quote(text))
	}
	return int64(n) * units[i].bytes, nil
}

// parseDuration reads the window of byte limits. Counters need not be kept
// for longer than a month.
func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Minute || d > 31*24*time.Hour || d%time.Minute != 0 {
		return 0, fault.New(fault.Invalid, "%s is not whole minutes from 1m to 744h, like 24h", quote(text))
	}
	return d, nil
}

// parseComment wants what a terminal shows as one line.
func parseComment(text string) (string, error) {
	if len(text) > maxComment || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", fault.New(fault.Invalid, "want one line of at most %d bytes of plain text", maxComment)
	}
	return text, nil
}

// quote makes foreign text fit for a line of an error or a log: enough of it
// to know it by, and a number as it is.
func quote(text string) string {
	const most = 80
	if len(text) > most {
		text = text[:most] + "..."
	}
	if _, err := strconv.Atoi(text); err == nil {
		return text
	}
	return strconv.Quote(text)
}
