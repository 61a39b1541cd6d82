package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"bulkhead/internal/egress/proxy"
)

const (
	// moved is what is carried in each round, in bytes.
	moved = 512 << 20
	// connections are made one after the other in each round.
	connections = 500
	// crowded are open at once in each round, as many as one sandbox may have.
	crowded = 1000
)

// egress compares the proxy with a bare relay, between sockets of this host:
// in a translator the guest itself would be all that is measured.
func (b *bench) egress(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	sink, err := listen(ctx, &all, func(c net.Conn) {
		io.Copy(io.Discard, c)
		io.WriteString(c, "x")
	})
	if err != nil {
		return err
	}
	bare, err := listen(ctx, &all, func(c net.Conn) { relay(c, sink.String()) })
	if err != nil {
		return err
	}
	ours, err := serveProxy(ctx, &all, sink)
	if err != nil {
		return err
	}
	var move, moveBare, connect, connectBare, crowd, crowdBare []time.Duration
	for range rounds {
		for _, m := range []struct {
			into *[]time.Duration
			do   func() error
		}{
			{&move, func() error { return send(ours, moved, 1) }}, {&moveBare, func() error { return send(bare, moved, 1) }},
			{&connect, func() error { return send(ours, 1, connections) }}, {&connectBare, func() error { return send(bare, 1, connections) }},
			{&crowd, func() error { return gather(ours) }}, {&crowdBare, func() error { return gather(bare) }},
		} {
			took, err := timed(m.do)
			if err != nil {
				return err
			}
			*m.into = append(*m.into, took)
		}
	}
	hand := median(moveBare)
	b.print(comparison{"512 MiB out through the proxy", median(move), hand, hand * 10 / 8, "80 % of a bare relay's speed"})
	hand = median(connectBare)
	b.print(comparison{"500 connections, one after the other", median(connect), hand, 2 * hand, "2 x a bare relay"})
	hand = median(crowdBare)
	b.print(comparison{"1000 connections open at once, a byte each", median(crowd), hand, 2 * hand, "2 x a bare relay"})
	return nil
}

// listen serves connections until ctx ends.
func listen(ctx context.Context, all *sync.WaitGroup, serve func(net.Conn)) (netip.AddrPort, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	})
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}

// relay is the least that carries a connection both ways.
func relay(c net.Conn, to string) {
	out, err := net.Dial("tcp4", to)
	if err != nil {
		return
	}
	defer out.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(c, out)
	}()
	io.Copy(out, c)
	out.(*net.TCPConn).CloseWrite()
	<-done
}

func serveProxy(ctx context.Context, all *sync.WaitGroup, sink netip.AddrPort) (netip.AddrPort, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp4", sink.String())
	}
	p := &proxy.Proxy{
		Name:    func(netip.Addr) (string, bool) { return "bench.example", true },
		Decide:  func(context.Context, proxy.Destination) proxy.Verdict { return proxy.Verdict{Allow: true} },
		Forbids: func(proxy.Destination) bool { return false },
		Dial: func(ctx context.Context, _ string, _ uint16) (net.Conn, netip.Addr, error) {
			c, err := dial(ctx)
			return c, sink.Addr(), err
		},
		DialAddr: func(ctx context.Context, _ netip.Addr, _ uint16) (net.Conn, error) { return dial(ctx) },
		Original: func(net.Conn) (netip.AddrPort, error) { return netip.AddrPortFrom(sink.Addr(), 5432), nil },
		Admit:    func(proxy.Destination) (proxy.Allowance, error) { return boundless{}, nil },
		Record:   func(proxy.Connection) {},
		MaxConns: 1000, Room: proxy.NewRoom(1 << 20), Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	all.Go(func() { p.Serve(ctx, l) })
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}

// boundless is the allowance of connections without limits.
type boundless struct{}

// Metered implements proxy.Allowance.
func (boundless) Metered() bool { return false }

// Spend implements proxy.Allowance.
func (boundless) Spend(int64, int64) error { return nil }

// Leave implements proxy.Allowance.
func (boundless) Leave() {}

// gather opens connections, and sends a byte over each once all are open.
func gather(to netip.AddrPort) (err error) {
	var all []net.Conn
	defer func() {
		for _, c := range all {
			err = errors.Join(err, c.Close())
		}
	}()
	for range crowded {
		c, err := net.Dial("tcp4", to.String())
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	for _, c := range all {
		if _, err := c.Write([]byte{'x'}); err != nil {
			return err
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
	}
	for _, c := range all {
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return err
		}
	}
	return nil
}

// send sends size bytes n times and waits each time until all has arrived.
func send(to netip.AddrPort, size int64, n int) error {
	piece := make([]byte, min(size, 1<<20))
	for range n {
		c, err := net.Dial("tcp4", to.String())
		if err != nil {
			return err
		}
		for left := size; left > 0 && err == nil; left -= int64(len(piece)) {
			_, err = c.Write(piece)
		}
		if err == nil {
			err = c.(*net.TCPConn).CloseWrite()
		}
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		if err := errors.Join(err, c.Close()); err != nil {
			return err
		}
	}
	return nil
}
