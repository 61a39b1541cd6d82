package client

import (
	"context"
	"time"
)

// EgressLearned is what a sandbox talked to while that was recorded, and the
// smallest policy that allows what was allowed.
type EgressLearned struct {
	SandboxID string `json:"sandboxID"`
	// On says that it is recorded now.
	On    bool      `json:"on"`
	Since time.Time `json:"since"`
	// Seen is what was used and what was refused; Unrecorded counts what came
	// when there was no more room.
	Seen       []EgressSeen `json:"seen"`
	Unrecorded int          `json:"unrecorded,omitempty"`
	// Proposal is a policy as YAML; Changes are its lines that differ from the
	// policy in force, with "- " or "+ " before them.
	Proposal string   `json:"proposal"`
	Changes  []string `json:"changes"`
}

// EgressSeen is a destination: "name:port", "address:port", or "name" if it was
// not even resolved. Count is how often it was tried.
type EgressSeen struct {
	Destination string `json:"destination"`
	Allowed     bool   `json:"allowed"`
	Count       int    `json:"count"`
}

// EgressChange is a destination about which another policy says something else.
type EgressChange struct {
	EgressSeen
	// Now is "allow", "deny" or "ask", by Rule.
	Now  string `json:"now"`
	Rule string `json:"rule"`
}

// EgressCheck is what is to be said of a policy that somebody writes.
type EgressCheck struct {
	// Mistake says what is wrong with it; "" if nothing is.
	Mistake string `json:"mistake,omitempty"`
	Hint    string `json:"hint,omitempty"`
	// Changes are the recorded destinations about which it says something else.
	Changes []EgressChange `json:"changes"`
}

// EgressLearnRequest starts or stops a record.
type EgressLearnRequest struct {
	On bool `json:"on"`
}

// LearnEgress starts a new record of what a sandbox talks to, or stops it.
func (c *Client) LearnEgress(ctx context.Context, ref string, on bool) error {
	return c.call(ctx, "POST", sandboxPath(ref, "egress", "learn"), EgressLearnRequest{on}, nil)
}

// EgressLearned returns the record and what it proposes.
func (c *Client) EgressLearned(ctx context.Context, ref string) (l EgressLearned, err error) {
	err = c.call(ctx, "GET", sandboxPath(ref, "egress", "learn"), nil, &l)
	return l, err
}

// ReplayEgress says what another policy would have decided otherwise about what
// was recorded. Nothing is changed.
func (c *Client) ReplayEgress(ctx context.Context, ref string, req EgressPolicyRequest) (all []EgressChange, err error) {
	err = c.call(ctx, "POST", sandboxPath(ref, "egress", "replay"), req, &all)
	return all, err
}
