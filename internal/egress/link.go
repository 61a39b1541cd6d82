package egress

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"

	"bulkhead/internal/egress/binding"
	"bulkhead/internal/egress/names"
	"bulkhead/internal/egress/proxy"
	"bulkhead/internal/network"
)

// MaxConnections is how many connections a sandbox may have open at once.
const MaxConnections = 1000

// Link is the network of one running machine, and what serves it.
type Link struct {
	gate  *gate
	net   *network.Link
	tap   *os.File
	proxy *proxy.Proxy
	trust binding.Trust
	stop  context.CancelFunc
	done  sync.WaitGroup
	// closed is guarded by the gate's mu.
	closed bool
}

// Tap is the machine's device; nil if an earlier daemon made it. It is closed
// with the link, which does not end what else has it open.
func (l *Link) Tap() *os.File { return l.tap }

// Trust is what the guest is to be given before it runs; the zero Trust if an
// earlier daemon made the link.
func (l *Link) Trust() binding.Trust { return l.trust }

// Knock watches for packets to the guest until ctx ends. The channel is closed
// with the first, which is held for a machine that stands still.
func (l *Link) Knock(ctx context.Context) (<-chan struct{}, error) { return l.net.Knock(ctx) }

// serve begins to answer the guest.
func (l *Link) serve(ctx context.Context) error {
	packets, streams, err := l.net.Names(ctx)
	if err != nil {
		return err
	}
	connections, err := l.net.Streams(ctx)
	if err != nil {
		return errors.Join(err, packets.Close(), streams.Close())
	}
	g := l.gate
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	resolver := &names.Server{
		Table: g.table, MayResolve: g.mayResolve, Refused: g.refusedName, Added: g.keepNames,
		Clock: g.p.cfg.Clock, Log: g.log,
	}
	l.proxy = &proxy.Proxy{
		Name: g.table.Name, Decide: g.decide, Forbids: g.forbids, Dial: g.dial, DialAddr: g.dialAddress,
		Terminate: g.terminate, Original: network.Original,
		Admit: g.admit, Record: g.record,
		MaxConns: MaxConnections, Room: g.p.room, Clock: g.p.cfg.Clock, Log: g.log,
	}
	l.goServe(func() error { return resolver.ServePacket(life, packets) })
	l.goServe(func() error { return resolver.ServeStream(life, streams) })
	l.goServe(func() error { return l.proxy.Serve(life, connections) })
	l.goServe(func() error { return g.tell(life) })
	l.goServe(func() error { return g.keep(life) })
	g.mu.Lock()
	g.link = l
	g.mu.Unlock()
	return nil
}

func (l *Link) goServe(serve func() error) {
	l.done.Go(func() {
		if err := serve(); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) {
			l.gate.log.Warn("egress is not served any more", "err", err)
		}
	})
}

// Close ends all connections and removes the network. Closing it again is no
// error, also when the sandbox has another link by then.
func (l *Link) Close() error {
	g := l.gate
	if l.stop != nil {
		l.stop()
		l.done.Wait()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if g.link == l {
		g.link = nil
	}
	err := l.net.Close()
	if l.tap != nil {
		if e := l.tap.Close(); !errors.Is(e, os.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, removeLink(g.p.cfg.LinkPath(g.id)))
}

func removeLink(path string) error { return network.Remove(path) }
