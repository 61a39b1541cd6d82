package front

import (
	"context"
	"encoding/json"
	"time"

	"bulkhead/client"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/lease"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/sandbox/schedule"
)

const (
	// envdVersion is the version of E2B's agent whose services ours has: SDKs
	// leave out what older ones lack.
	envdVersion = "0.6.13"
	// clientID is what E2B gives to every sandbox since it means nothing.
	clientID = "6532622b"
)

// asked is what is kept of a request for a sandbox, to be shown.
type asked struct {
	Secure   bool            `json:"secure,omitempty"`
	Internet *bool           `json:"internet,omitempty"`
	Network  *client.Network `json:"network,omitempty"`
}

func askedFor(req client.CreateRequest) asked {
	return asked{Secure: req.Secure != nil && *req.Secure, Internet: req.AllowInternetAccess, Network: req.Network}
}

// askedOf reads what was kept; what cannot be read says nothing.
func askedOf(raw json.RawMessage) (a asked) {
	if len(raw) == 0 || json.Unmarshal(raw, &a) != nil {
		return asked{}
	}
	return a
}

// leaseOf is how the client that asks for a sandbox has it; nil for as long as
// it likes.
func leaseOf(req client.CreateRequest) *lease.Lease {
	if req.Timeout == nil {
		return nil
	}
	l := &lease.Lease{Term: seconds(*req.Timeout), OnEnd: schedule.Remove, Wakes: req.AutoResume != nil && req.AutoResume.Enabled}
	if req.AutoPause {
		l.OnEnd = schedule.Pause
		l.Cold = req.AutoPauseMemory != nil && !*req.AutoPauseMemory
	}
	return l
}

// forkLease is how the client has a fork: as it has the other, for another time.
func forkLease(source *lease.Lease, timeout *int) *lease.Lease {
	if timeout == nil {
		return nil
	}
	l := lease.Lease{OnEnd: schedule.Remove}
	if source != nil {
		l = *source
	}
	l.Term = seconds(*timeout)
	return &l
}

// lent adds to c what its client needs to know of how it has b.
func (a *Front) lent(c *client.Sandbox, b sandbox.Sandbox) {
	said := askedOf(b.Asked)
	c.Access = client.Access{ClientID: clientID, EnvdVersion: envdVersion, Alias: b.Template}
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

// SetEnd implements e2b.Power.
func (s sandboxes) SetEnd(ctx context.Context, ref string, at time.Time, onlyLater bool) (client.Sandbox, error) {
	b, err := s.Manager.SetEnd(ctx, ref, lease.End{At: at, OnlyLater: onlyLater})
	if err != nil {
		return client.Sandbox{}, err
	}
	return s.sandbox(ctx, b)
}
