package e2b

import (
	"net/http"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/input"
)

// setNetwork replaces what a sandbox may talk to: what the request leaves out is
// cleared.
func (a *API) setNetwork(r *http.Request) (Reply, error) {
	var fields decoded
	if err := input.JSON(r, &fields); err != nil {
		return Reply{}, err
	}
	if err := refuseNetwork(fields); err != nil {
		return Reply{}, err
	}
	var req struct {
		AllowOut []string `json:"allowOut"`
		DenyOut  []string `json:"denyOut"`
		Internet *bool    `json:"allow_internet_access"`
	}
	if err := fields.into(&req); err != nil {
		return Reply{}, err
	}
	ref := r.PathValue("ref")
	s, err := a.look(r.Context(), ref)
	if err != nil {
		return Reply{}, err
	}
	if s.State != client.StateRunning {
		return Reply{}, fault.New(fault.WrongState, "sandbox %s is %s", ref, s.State)
	}
	n := &client.Network{AllowOut: req.AllowOut, DenyOut: req.DenyOut}
	if err := a.Networks.Check(n, req.Internet); err != nil {
		return Reply{}, err
	}
	return done(), a.Networks.SetNetwork(r.Context(), ref, n, req.Internet)
}

// refuseNetwork refuses what of a network we do not offer.
func refuseNetwork(n decoded) error {
	switch {
	case n.says("egressProxy"):
		return fault.New(fault.Denied, "egressProxy: connections leave by this host's own proxy only")
	case n.says("rules"):
		return fault.New(fault.Unsupported, "rules: headers are added by secrets, not here").
			Hint("bulkhead secret set, and bulkhead egress allow NAME --secret")
	case n.says("httpsPorts"):
		return fault.New(fault.Unsupported, "httpsPorts: services in sandboxes are reached by plain HTTP")
	}
	return nil
}
