package front

import (
	"context"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon/wire"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/lease"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/schedule"
	"bulkhead/internal/server/auth"
)

const (
	// envdVersion is the version of E2B's agent whose services ours has: SDKs
	// leave out what older ones lack.
	envdVersion = "0.6.13"
	// clientID is what E2B gives to every sandbox since it means nothing.
	clientID = "6532622b"
)

// lent adds to c what its client needs to know of how it has b.
func (a *Front) lent(ctx context.Context, c *client.Sandbox, b sandbox.Sandbox) {
	said := wire.AskedOf(b.Asked)
	c.Access = client.Access{ClientID: clientID, EnvdVersion: envdVersion, Alias: b.Template, Domain: a.Domain}
	if auth.From(ctx).Need(auth.Operate) == nil { // who may only look gets no way in
		c.AgentToken = a.Tokens.Access(string(b.ID))
		if b.Ingress.Private {
			c.TrafficToken = a.Tokens.Traffic(string(b.ID))
		}
	}
	c.AllowInternetAccess, c.Network = said.Internet, said.Network
	c.Lifecycle = client.Lifecycle{AutoResume: b.Lease == nil || b.Lease.Wakes, OnTimeout: "kill"}
	if b.Lease != nil && b.Lease.OnEnd == schedule.Pause {
		c.Lifecycle.OnTimeout = "pause"
	}
	c.EndAt = client.NoEnd()
	switch {
	case b.State == lifecycle.Paused && b.Lease != nil:
		if snap, err := a.Pool.Snapshot(b.Head); err == nil {
			c.EndAt = snap.Created
		}
	case !b.Schedule.Expires.IsZero():
		c.EndAt = b.Schedule.Expires
	}
}

// ingressOf is how the ports of a sandbox may be reached, as its client asks.
func ingressOf(n *client.Network) (i sandbox.Ingress) {
	if n != nil {
		i.Private = n.AllowPublicTraffic != nil && !*n.AllowPublicTraffic
		i.MaskHost = n.MaskRequestHost
	}
	return i
}

// SetEnd implements e2b.Power.
func (s sandboxes) SetEnd(ctx context.Context, ref string, at time.Time, onlyLater bool) (client.Sandbox, error) {
	b, err := s.Manager.SetEnd(ctx, ref, lease.End{At: at, OnlyLater: onlyLater})
	if err != nil {
		return client.Sandbox{}, err
	}
	return s.sandbox(ctx, b)
}
