package ssh

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bulkhead/client"

	"golang.org/x/crypto/ssh"
)

// Bounds of one connection. A channel takes 2 MiB of this host at most: that is
// the library's window for what the guest does not read.
const (
	// maxSessions is that of OpenSSH's server (sshd_config(5), MaxSessions).
	maxSessions = 10
	maxForwards = 64
)

// connection is one that has logged in.
type connection struct {
	*Server
	*ssh.ServerConn
	channels <-chan ssh.NewChannel
	requests <-chan *ssh.Request
	who      *person
	api      Sandboxes
	// refusal is why there is no sandbox for it; nil if there is.
	refusal error

	// open are the goroutines of channels.
	open               sync.WaitGroup
	sessions, forwards atomic.Int32
}

// serve serves until the connection ends.
func (c *connection) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer c.open.Wait()
	defer cancel()
	// Ports of this host and keepalives: none of the former, and any answer
	// will do for the latter.
	c.open.Go(func() { ssh.DiscardRequests(c.requests) })
	c.open.Go(func() { c.watch(ctx) })
	for asked := range c.channels {
		switch asked.ChannelType() {
		case "session":
			c.begin(&c.sessions, maxSessions, asked, func() { c.session(ctx, asked) })
		case "direct-tcpip":
			c.begin(&c.forwards, maxForwards, asked, func() { c.forward(ctx, asked) })
		default:
			c.reject(asked, ssh.UnknownChannelType, "only sessions and ports of the guest are offered")
		}
	}
}

// begin serves a channel unless there are too many of its kind.
func (c *connection) begin(count *atomic.Int32, most int32, asked ssh.NewChannel, serve func()) {
	if count.Add(1) > most {
		count.Add(-1)
		c.reject(asked, ssh.ResourceShortage, "too many channels")
		return
	}
	c.open.Go(func() {
		defer count.Add(-1)
		serve()
	})
}

// reject refuses a channel. Whoever is gone needs no answer.
func (c *connection) reject(asked ssh.NewChannel, why ssh.RejectionReason, text string) {
	_ = asked.Reject(why, plain(text))
}

// watch cuts the connection when its peer answers no more, its key is not good
// any more or its sandbox is gone.
func (c *connection) watch(ctx context.Context) {
	tick := time.NewTicker(alive)
	defer tick.Stop()
	answers := make(chan error, 1)
	for waited := 0; ; {
		select {
		case <-ctx.Done():
			return
		case err := <-answers:
			if err != nil {
				return
			}
			waited = 0
			continue
		case <-tick.C:
		}
		if waited == 0 {
			c.open.Go(func() {
				_, _, err := c.SendRequest("keepalive@openssh.com", true, nil)
				answers <- err
			})
		}
		if waited++; waited > patience || !c.good(ctx) {
			c.Close()
			return
		}
	}
}

// good reports whether the connection may go on.
func (c *connection) good(ctx context.Context) bool {
	if !slices.Contains(c.Keys.Teams(c.who.key), c.who.team) {
		return false
	}
	return c.refusal != nil || !c.gone(ctx)
}

// gone reports whether the sandbox has been removed.
func (c *connection) gone(ctx context.Context) bool {
	_, err := c.api.Sandbox(ctx, c.who.machine)
	var e *client.Error
	return errors.As(err, &e) && e.Kind == "not_found"
}

// cutIfGone cuts the connection if its sandbox is gone, which is what it looks
// like when something in it was cut off.
func (c *connection) cutIfGone(ctx context.Context) {
	if c.gone(ctx) {
		c.Close()
	}
}
