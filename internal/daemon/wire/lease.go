package wire

import (
	"encoding/json"

	"bulkhead/client"
	"bulkhead/internal/sandbox/lease"
	"bulkhead/internal/sandbox/schedule"
)

// Asked is what is kept of a request for a sandbox, to be shown.
type Asked struct {
	Internet *bool           `json:"internet,omitempty"`
	Network  *client.Network `json:"network,omitempty"`
}

// AskedFor is what is kept of one.
func AskedFor(req client.CreateRequest) Asked {
	return Asked{Internet: req.AllowInternetAccess, Network: req.Network}
}

// AskedOf reads what was kept; what cannot be read says nothing.
func AskedOf(raw json.RawMessage) (a Asked) {
	if len(raw) == 0 || json.Unmarshal(raw, &a) != nil {
		return Asked{}
	}
	return a
}

// Lease is how the client that asks for a sandbox has it; nil for as long as
// it likes.
func Lease(req client.CreateRequest) *lease.Lease {
	if req.Timeout == nil {
		return nil
	}
	l := &lease.Lease{Term: Seconds(*req.Timeout), OnEnd: schedule.Remove, Wakes: req.AutoResume != nil && req.AutoResume.Enabled}
	if req.AutoPause {
		l.OnEnd = schedule.Pause
		l.Cold = req.AutoPauseMemory != nil && !*req.AutoPauseMemory
	}
	return l
}

// ForkLease is how the client has a fork: as it has the other, for another time.
func ForkLease(source *lease.Lease, timeout *int) *lease.Lease {
	if timeout == nil {
		return nil
	}
	l := lease.Lease{OnEnd: schedule.Remove}
	if source != nil {
		l = *source
	}
	l.Term = Seconds(*timeout)
	return &l
}
