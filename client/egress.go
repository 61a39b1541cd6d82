package client

import (
	"context"
	"time"
)

// Egress is what a sandbox may talk to, and what became of it.
type Egress struct {
	SandboxID string `json:"sandboxID"`
	// Policy is the document in force, as YAML.
	Policy string `json:"policy"`
	// Dropped counts packets that were for nobody, by reason, since the machine
	// was started: "udp", "icmp", "ipv6", "spoofed", "flood", "other".
	Dropped map[string]uint64 `json:"dropped"`
	// Used is what each destination has taken since the daemon was started.
	Used []EgressUse `json:"used"`
	// Budgets are the limits of the policy, and what was taken of them.
	Budgets []EgressBudget `json:"budgets"`
	// Approved are destinations about which the operator was asked and that may be
	// talked to for a time.
	Approved []EgressApproval `json:"approved"`
	// Denied is what was refused lately, the latest first.
	Denied []EgressDenial `json:"denied"`
}

// EgressApproval is an answer of the operator's that counts for a time.
type EgressApproval struct {
	Destination string    `json:"destination"`
	Until       time.Time `json:"until"`
}

// EgressBudget is one limit of a policy. What is not limited is 0.
type EgressBudget struct {
	// For is what the rule is about, "" for the sandbox as a whole.
	For string `json:"for"`
	// Limits are as the policy writes them.
	Limits string `json:"limits"`
	// UpBytes and DownBytes were taken since Since, UpLimit and DownLimit may be
	// until Until.
	UpBytes   int64     `json:"upBytes"`
	UpLimit   int64     `json:"upLimit,omitempty"`
	DownBytes int64     `json:"downBytes"`
	DownLimit int64     `json:"downLimit,omitempty"`
	Since     time.Time `json:"since"`
	Until     time.Time `json:"until"`
	// Open is how many connections are, of OpenLimit.
	Open      int `json:"open"`
	OpenLimit int `json:"openLimit,omitempty"`
}

// EgressUse is what went to and came from one destination.
type EgressUse struct {
	// Destination is "name:port" or "address:port".
	Destination string `json:"destination"`
	Connections int    `json:"connections"`
	// Open is how many of them are.
	Open      int   `json:"open"`
	UpBytes   int64 `json:"upBytes"`
	DownBytes int64 `json:"downBytes"`
}

// EgressDenial is something that was refused.
type EgressDenial struct {
	Time time.Time `json:"time"`
	// Destination is "name:port", or "name" if it was not even resolved.
	Destination string `json:"destination"`
	// Rule is what refused it, Reason says more.
	Rule   string `json:"rule"`
	Reason string `json:"reason,omitempty"`
	// Count is how often, one after the other.
	Count int `json:"count"`
}

// EgressVerdict says what would happen to a connection.
type EgressVerdict struct {
	Destination string `json:"destination"`
	Allowed     bool   `json:"allowed"`
	// Asks says that it would wait for the operator's answer.
	Asks bool `json:"asks,omitempty"`
	// Rule is the rule that says so.
	Rule string `json:"rule"`
}

// EgressTestRequest asks what would happen to a connection to "name:port".
type EgressTestRequest struct {
	Destination string `json:"destination"`
	// EgressPolicyRequest is by what it is decided, which need not be in force;
	// without one, the sandbox's own policy decides.
	EgressPolicyRequest
}

// EgressPolicyRequest replaces a policy: by a document, or by a preset's name.
type EgressPolicyRequest struct {
	Policy string `json:"policy,omitempty"`
	Preset string `json:"preset,omitempty"`
}

// EgressRuleRequest puts a rule before all others.
type EgressRuleRequest struct {
	// Destination is "name", "name:port", "*.suffix:port" or "CIDR:port".
	Destination string `json:"destination"`
	Allow       bool   `json:"allow"`
	// Secret is one that requests by the rule use; nil for none.
	Secret *EgressSecret `json:"secret,omitempty"`
}

// BlastRadius is everything that the agent in a sandbox can reach, from what is
// loaded, not from what was asked for.
type BlastRadius struct {
	SandboxID string `json:"sandboxID"`
	Name      string `json:"name"`
	State     State  `json:"state"`
	// Network is what it may talk to: one line for each rule, in order, the
	// default last.
	Network []string `json:"network"`
	// Used is what it has talked to.
	Used []EgressUse `json:"used"`
	// MaxConnections is how many it may have open at once, whatever the rules say.
	MaxConnections int `json:"maxConnections"`
	// Budgets are what is left of it.
	Budgets []EgressBudget `json:"budgets"`
	// Link is its network as the kernel reports it, in lines much as ip(8), ss(8)
	// and nft(8) have them: devices, addresses, routes, sockets and rules. It is
	// empty while it has none.
	Link map[string][]string `json:"link"`
	// Secrets are those that it can use without seeing them, one line for each
	// and where.
	Secrets []string `json:"secrets"`
	// Neighbours are other sandboxes that it can reach: there is no way to any.
	Neighbours []string `json:"neighbours"`
	// Devices are what its machine consists of, as its VMM was started; none
	// while it has none.
	Devices []string `json:"devices"`
	// Files maps what its VMM sees of the host's files to how.
	Files map[string]string `json:"files"`
	// Host is what its VMM is on the host; nil while it has none.
	Host *Cage `json:"host,omitempty"`
	// Holes are the ways in which its walls are not as they must be.
	Holes []string `json:"holes"`
}

// BlastRadius returns everything that the agent in a sandbox can reach.
func (c *Client) BlastRadius(ctx context.Context, ref string) (b BlastRadius, err error) {
	err = c.call(ctx, "GET", sandboxPath(ref, "blast-radius"), nil, &b)
	return b, err
}

// EgressQuestion is a destination that waits for the operator.
type EgressQuestion struct {
	SandboxID   string    `json:"sandboxID"`
	Sandbox     string    `json:"sandbox"`
	Destination string    `json:"destination"`
	Since       time.Time `json:"since"`
	// Waiting is how many connections wait for it.
	Waiting int `json:"waiting"`
}

// EgressAnswer answers a question.
type EgressAnswer struct {
	Destination string `json:"destination"`
	Allow       bool   `json:"allow"`
	// Always makes it a rule of the policy.
	Always bool `json:"always,omitempty"`
	// ForSeconds is how long an approval counts; 0 is for those who wait.
	ForSeconds int `json:"forSeconds,omitempty"`
}

// EgressPending lists what waits for the operator, of all sandboxes.
func (c *Client) EgressPending(ctx context.Context) (all []EgressQuestion, err error) {
	err = c.call(ctx, "GET", "/egress/pending", nil, &all)
	return all, err
}

// AnswerEgress answers a question of a sandbox.
func (c *Client) AnswerEgress(ctx context.Context, ref string, a EgressAnswer) error {
	return c.call(ctx, "POST", sandboxPath(ref, "egress", "answer"), a, nil)
}

// Egress returns what a sandbox may talk to.
func (c *Client) Egress(ctx context.Context, ref string) (e Egress, err error) {
	err = c.call(ctx, "GET", sandboxPath(ref, "egress"), nil, &e)
	return e, err
}

// SetEgress replaces a sandbox's policy at once; open connections that the new
// one forbids are closed. A policy with a mistake changes nothing.
func (c *Client) SetEgress(ctx context.Context, ref string, req EgressPolicyRequest) (e Egress, err error) {
	err = c.call(ctx, "PUT", sandboxPath(ref, "egress"), req, &e)
	return e, err
}

// AddEgressRule puts a rule before all others of a sandbox's policy.
func (c *Client) AddEgressRule(ctx context.Context, ref string, req EgressRuleRequest) (e Egress, err error) {
	err = c.call(ctx, "POST", sandboxPath(ref, "egress", "rules"), req, &e)
	return e, err
}

// TestEgress says whether a connection would be allowed, and by which rule.
// Nothing is sent.
func (c *Client) TestEgress(ctx context.Context, ref string, req EgressTestRequest) (v EgressVerdict, err error) {
	err = c.call(ctx, "POST", sandboxPath(ref, "egress", "test"), req, &v)
	return v, err
}

// AskEgress asks the operator to allow a destination, "name:port", to a sandbox,
// and waits up to a minute for the answer. What is allowed already is not asked.
func (c *Client) AskEgress(ctx context.Context, ref, destination string) (v EgressVerdict, err error) {
	req := EgressVerdict{Destination: destination}
	err = c.call(ctx, "POST", sandboxPath(ref, "egress", "ask"), req, &v)
	return v, err
}
