package front

import (
	"context"
	"encoding/json"

	"bulkhead/client"
	"bulkhead/internal/daemon/netrules"
	"bulkhead/internal/daemon/wire"
)

// networks has what a sandbox may talk to in the words of E2B's SDKs. They are
// made an egress policy, which stays the only thing that decides.
type networks struct{ *Front }

// Check implements e2b.Networks.
func (n networks) Check(c *client.Network, internet *bool) error {
	_, err := netrules.Policy(c, internet)
	return err
}

// SetNetwork implements e2b.Networks.
func (n networks) SetNetwork(ctx context.Context, ref string, c *client.Network, internet *bool) error {
	s, err := n.Manager.Get(ref)
	if err != nil {
		return err
	}
	rules, err := netrules.Policy(c, internet)
	if err != nil {
		return err
	}
	if err := n.Border.SetPolicy(ctx, string(s.ID), rules); err != nil {
		return err
	}
	said := wire.AskedOf(s.Asked)
	now := *c
	if said.Network != nil { // what others may ask of it stays
		now.AllowPublicTraffic, now.MaskRequestHost = said.Network.AllowPublicTraffic, said.Network.MaskRequestHost
	}
	said.Network, said.Internet = &now, internet
	raw, err := json.Marshal(said)
	if err != nil {
		return err
	}
	return n.Manager.SetAsked(ctx, string(s.ID), raw)
}
