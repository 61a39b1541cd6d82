package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"bulkhead/internal/egress/policy"
)

// maxAddresses bounds how many addresses of one name are tried.
const maxAddresses = 8

// errRefused is part of every error about an address that a policy does not
// allow, whatever the name was.
var errRefused = errors.New("refused")

// dial resolves a name and connects to it. Whatever it resolves to, what is not
// public is refused unless a rule names the address: a name that somebody else
// answers for must not be a way into a private network.
func (g *gate) dial(ctx context.Context, name string, port uint16) (net.Conn, netip.Addr, error) {
	addresses, err := g.p.cfg.Out.Resolve(ctx, name)
	if err != nil {
		return nil, netip.Addr{}, fmt.Errorf("resolve %s: %w", name, err)
	}
	if len(addresses) == 0 {
		return nil, netip.Addr{}, fmt.Errorf("resolve %s: it has no address", name)
	}
	var errs error
	for _, a := range addresses[:min(len(addresses), maxAddresses)] {
		conn, err := g.dialAddress(ctx, a, port)
		if err == nil {
			return conn, a, nil
		}
		errs = errors.Join(errs, err)
	}
	return nil, netip.Addr{}, errs
}

// dialAddress connects to one address if that is allowed.
func (g *gate) dialAddress(ctx context.Context, a netip.Addr, port uint16) (net.Conn, error) {
	a = a.Unmap()
	p := g.policy.Load()
	if rule, denied := p.DeniesAddr(a, port); denied {
		return nil, fmt.Errorf("%s: %w by %s", a, errRefused, rule)
	}
	if !p.AllowsAddr(a, port) {
		if err := Closed(a); err != nil {
			return nil, err
		}
	}
	return g.p.cfg.Out.Dial(ctx, netip.AddrPortFrom(a, port))
}

// Closed says why an address is not one that a stranger's name may lead to: it
// is no public one, or the host's own; nil if it may.
func Closed(a netip.Addr) error {
	if why, forbidden := policy.Forbidden(a); forbidden {
		return fmt.Errorf("%s is %s: %w", a, why, errRefused)
	}
	if own, err := isOwn(a); err != nil || own {
		return fmt.Errorf("%s is the host's own: %w", a, errors.Join(errRefused, err))
	}
	return nil
}

// isOwn reports whether an address is one of this host's.
func isOwn(a netip.Addr) (bool, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false, err
	}
	for _, own := range all {
		if n, ok := own.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == a {
				return true, nil
			}
		}
	}
	return false, nil
}

// Host is the way out that this host has.
type Host struct{}

// Resolve asks the host's resolver.
func (Host) Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	// Absolute, so that no search list of the host's is tried.
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name+".")
}

// Dial connects from the host.
func (Host) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to.String())
}
