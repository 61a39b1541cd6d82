package ssh

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Bounds of those who have not logged in.
const (
	// maxWaiting and maxWaitingFrom are how many may be about to, in all and
	// from one source.
	maxWaiting, maxWaitingFrom = 32, 8
	// maxFailures is how many logins from one source may fail in a window.
	maxFailures = 20
	window      = time.Minute
	// maxSources bounds what is remembered.
	maxSources = 4096
	// maxTold is how many refusals are recorded in a window: somebody with many
	// addresses must not push older events out of the log.
	maxTold = 60
)

// doorman bounds what those can cause who have not logged in. A source is an
// address, or a /64 of IPv6, which is what one subscriber has (RFC 6177).
type doorman struct {
	clock func() time.Time

	mu      sync.Mutex
	waiting int
	sources map[netip.Prefix]*source
	// told and untold count refusals since the beginning of a window.
	told, untold int
	since        time.Time
}

// source is what is known of one.
type source struct {
	waiting  int
	failures int
	since    time.Time
}

func newDoorman(clock func() time.Time) *doorman {
	return &doorman{clock: clock, sources: map[netip.Prefix]*source{}}
}

// enter lets somebody try to log in, unless too many do. leave is called once,
// when that has succeeded or not.
func (d *doorman) enter(addr net.Addr) (leave func(in bool), ok bool) {
	from := sourceOf(addr)
	now := d.clock()
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.sources[from]
	if s == nil {
		if d.sweep(now); len(d.sources) >= maxSources {
			return nil, false
		}
		s = &source{since: now}
		d.sources[from] = s
	}
	if now.Sub(s.since) >= window {
		s.since, s.failures = now, 0
	}
	if d.waiting >= maxWaiting || s.waiting >= maxWaitingFrom || s.failures >= maxFailures {
		return nil, false
	}
	d.waiting++
	s.waiting++
	return func(in bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.waiting--
		s.waiting--
		if !in {
			s.failures++
		}
	}, true
}

// tell reports whether a refusal is to be recorded, and how many were not since
// the last one.
func (d *doorman) tell() (ok bool, left int) {
	now := d.clock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.since) >= window {
		d.since, d.told = now, 0
	}
	if d.told >= maxTold {
		d.untold++
		return false, 0
	}
	d.told++
	left, d.untold = d.untold, 0
	return true, left
}

// sweep forgets the sources of earlier windows once there are many. mu is held.
func (d *doorman) sweep(now time.Time) {
	if len(d.sources) < maxSources {
		return
	}
	for from, s := range d.sources {
		if s.waiting == 0 && now.Sub(s.since) >= window {
			delete(d.sources, from)
		}
	}
}

// sourceOf returns whom an address is counted for. What is no address of the
// internet's is one source.
func sourceOf(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // the zero prefix for an address that is none
	return p
}
