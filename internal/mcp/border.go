package mcp

import (
	"context"
	"fmt"
	"time"

	"bulkhead/client"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// policy is what a sandbox may talk to.
type policy struct {
	Sandbox string   `json:"sandbox"`
	Policy  string   `json:"policy" jsonschema:"the document in force, as YAML; the first rule that fits decides"`
	Denied  []denial `json:"denied" jsonschema:"what was refused lately, the latest first"`
}

type denial struct {
	At          string `json:"at"`
	Destination string `json:"destination"`
	Rule        string `json:"rule"`
	Reason      string `json:"reason,omitempty"`
	Count       int    `json:"count"`
}

// asking is what ask_egress is told.
type asking struct {
	which
	Destination string `json:"destination" jsonschema:"name and port, like api.example.com:443"`
}

// answered is what came of it.
type answered struct {
	Destination string `json:"destination"`
	Allowed     bool   `json:"allowed"`
	Why         string `json:"why"`
}

// search is what events is told.
type search struct {
	which
	Type  string `json:"type,omitempty" jsonschema:"only this type and those below it, like egress or sandbox.paused"`
	After string `json:"after,omitempty" jsonschema:"only later ones, a time like 2026-01-02T15:04:05Z"`
	Limit int    `json:"limit,omitempty" jsonschema:"how many of the latest, 1 to 200 (50)"`
}

// record is a piece of the audit log.
type record struct {
	Events  []event `json:"events" jsonschema:"oldest first"`
	LeftOut int     `json:"left_out" jsonschema:"how many older ones were left out"`
}

type event struct {
	Seq     uint64            `json:"seq"`
	At      string            `json:"at"`
	Type    string            `json:"type"`
	Sandbox string            `json:"sandbox,omitempty"`
	Fields  map[string]string `json:"fields,omitempty"`
}

// defaultEvents is how many events are shown if nothing is said.
const defaultEvents = 50

func (t tools) addBorder(s *mcp.Server) {
	add(t, s, &mcp.Tool{
		Name: "egress_policy", Annotations: readOnly(),
		Description: "Read what a sandbox may talk to, and what was refused lately. Look here when a connection fails.",
	}, t.policy)
	hints := changes(false)
	add(t, s, &mcp.Tool{
		Name: "ask_egress", Annotations: hints,
		Description: "Ask the operator to let a sandbox talk to a destination, and wait up to a minute for the answer. Nobody " +
			"else can allow it. Without an answer it stays refused; ask again only if it is still needed.",
	}, func(ctx context.Context, _ *mcp.CallToolRequest, in asking) (answered, error) {
		ref, err := t.pick(ctx, in.Sandbox)
		if err != nil {
			return answered{}, err
		}
		v, err := t.API.AskEgress(ctx, ref, in.Destination)
		return answered{v.Destination, v.Allowed, v.Rule}, err
	})
	add(t, s, &mcp.Tool{
		Name: "events", Annotations: readOnly(),
		Description: "Read the latest events of a sandbox from the host's audit log: what was done to it, and what it tried." + untrusted,
	}, t.events)
}

func (t tools) policy(ctx context.Context, _ *mcp.CallToolRequest, in which) (policy, error) {
	ref, err := t.pick(ctx, in.Sandbox)
	if err != nil {
		return policy{}, err
	}
	e, err := t.API.Egress(ctx, ref)
	p := policy{e.SandboxID, short(e.Policy), []denial{}}
	for _, d := range e.Denied {
		p.Denied = append(p.Denied, denial{d.Time.UTC().Format(time.RFC3339), d.Destination, d.Rule, d.Reason, d.Count})
	}
	return p, err
}

func (t tools) events(ctx context.Context, _ *mcp.CallToolRequest, in search) (record, error) {
	ref, err := t.pick(ctx, in.Sandbox)
	if err != nil {
		return record{}, err
	}
	q := client.EventQuery{Sandbox: ref, Type: in.Type}
	if in.After != "" {
		if q.After, err = time.Parse(time.RFC3339, in.After); err != nil {
			return record{}, fmt.Errorf("after: %q is no time like 2026-01-02T15:04:05Z", in.After)
		}
	}
	if in.Limit == 0 {
		in.Limit = defaultEvents
	}
	most := min(max(1, in.Limit), maxEvents)
	out := record{Events: []event{}}
	err = t.API.Events(ctx, q, func(e client.Event) error {
		if len(out.Events) == most {
			out.Events = out.Events[1:]
			out.LeftOut++
		}
		fields := map[string]string{}
		for k, v := range e.Fields {
			fields[k] = short(v)
		}
		out.Events = append(out.Events, event{e.Seq, e.Time.UTC().Format(time.RFC3339), e.Type, e.SandboxID, fields})
		return nil
	})
	return out, err
}
