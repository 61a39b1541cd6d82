package server

import (
	"context"
	"io"
	"iter"
	"net/http"
	"time"

	"bulkhead/client"
	"bulkhead/internal/duplex"
	"bulkhead/internal/server/ingress"
)

// A ref names a sandbox: its id, its name, or a prefix of its id that fits no
// other. Resolve makes an id of one, and that is what everything else is given.
//
// Who is asking is in the context of every call (package auth).
//
// Errors of all interfaces carry a fault.Kind; it decides the HTTP status.

// Sandboxes is what can be done with sandboxes as such; what E2B has too is in
// package e2b.
type Sandboxes interface {
	// Resolve returns the whole id of a sandbox that who is asking (package
	// auth) sees, or fault.NotFound. All else here is about whole ids.
	Resolve(ctx context.Context, ref string) (id string, err error)
	Get(ctx context.Context, ref string) (client.Sandbox, error)
	// Console returns the folder that holds the sandbox's console: console.log
	// and, once that grew too large and was renamed, console.log.1. Neither
	// need exist. What is in the files is the guest's.
	Console(ctx context.Context, ref string) (folder string, err error)
	// Transport carries HTTP to the agent in a running sandbox, or, for a ref
	// like otter@monday, in a snapshot, for one request; the host of a
	// request's URL means nothing to it. It bounds the size of response
	// headers and honours a request's context. fault.NotFound,
	// fault.WrongState or fault.Unavailable say that nobody is there.
	Transport(ctx context.Context, ref string) (http.RoundTripper, error)
}

// Power is what can be done with the machines of sandboxes.
type Power interface {
	// Start starts a stopped or crashed sandbox from power-on.
	Start(ctx context.Context, ref string) (client.Sandbox, error)
	// Restart ends a machine, if it runs, and starts it from power-on.
	Restart(ctx context.Context, ref string) (client.Sandbox, error)
	// SetSchedule changes what is done for a sandbox while nobody looks.
	SetSchedule(ctx context.Context, ref string, s client.Schedule) (client.Sandbox, error)
}

// Snapshots is what can be done with the timeline of a sandbox. A snapshot is
// named by its id, a unique prefix of one, or its name.
type Snapshots interface {
	Remove(ctx context.Context, ref, snapshot string) error
	Timeline(ctx context.Context, ref string) (client.Timeline, error)
	Rollback(ctx context.Context, ref string, req client.RollbackRequest) (client.RollbackResult, error)
	// Diff tells which files differ between two snapshots; "" is the machine as
	// it is now. It ends after the first error.
	Diff(ctx context.Context, ref, from, to string) iter.Seq2[client.FileChange, error]
}

// Egress is what sandboxes may talk to. A policy that has a mistake is
// fault.Invalid and changes nothing.
type Egress interface {
	Egress(ctx context.Context, ref string) (client.Egress, error)
	SetEgress(ctx context.Context, ref string, req client.EgressPolicyRequest) (client.Egress, error)
	AddEgressRule(ctx context.Context, ref string, req client.EgressRuleRequest) (client.Egress, error)
	// TestEgress says what would happen to a connection, by the policy in force
	// or by one that could be.
	TestEgress(ctx context.Context, ref string, req client.EgressTestRequest) (client.EgressVerdict, error)
	// BlastRadius says what the agent in a sandbox can reach.
	BlastRadius(ctx context.Context, ref string) (client.BlastRadius, error)
}

// Questions is what waits for the operator.
type Questions interface {
	// EgressPending lists what waits, of all sandboxes.
	EgressPending(ctx context.Context) ([]client.EgressQuestion, error)
	// AskEgress asks about "name:port", and waits for an answer as long as a
	// connection would.
	AskEgress(ctx context.Context, ref, destination string) (client.EgressVerdict, error)
	AnswerEgress(ctx context.Context, ref string, a client.EgressAnswer) error
}

// Lessons is what is learned about egress, to make a policy from.
type Lessons interface {
	// Learn starts a new record of what a sandbox talks to, or stops it.
	Learn(ctx context.Context, ref string, on bool) error
	Learned(ctx context.Context, ref string) (client.EgressLearned, error)
	// Replay says what another policy would have decided otherwise.
	Replay(ctx context.Context, ref string, req client.EgressPolicyRequest) ([]client.EgressChange, error)
}

// Secrets is what sandboxes may use and never see. Values go in only.
type Secrets interface {
	// Secrets lists them by name.
	Secrets(ctx context.Context) ([]client.Secret, error)
	// SetSecret stores a value, in place of an older one.
	SetSecret(ctx context.Context, name, value string) error
	RemoveSecret(ctx context.Context, name string) error
}

// Keys is who else may use the API. A value comes out once.
type Keys interface {
	// Keys lists them by name.
	Keys(ctx context.Context) ([]client.Key, error)
	CreateKey(ctx context.Context, req client.KeyRequest) (client.NewKey, error)
	// RevokeKey ends a key for good, and what goes on for it.
	RevokeKey(ctx context.Context, name string) error
}

// Ports leads to what listens in a sandbox.
type Ports interface {
	// DialPort connects to a port of a running sandbox, those of its loopback
	// included. fault.Unavailable says that nothing listens.
	DialPort(ctx context.Context, ref string, port uint16) (duplex.Conn, error)
}

// Ingress is how sandboxes of all teams may be reached from outside.
type Ingress interface {
	// Rules returns the rules of a sandbox by its whole id, or fault.NotFound.
	Rules(ctx context.Context, id string) (ingress.Rules, error)
	IDs(ctx context.Context) []string
}

// guests is what leads into sandboxes, for package ingress.
type guests struct {
	Sandboxes
	Ports
	Ingress
}

// Parcels moves sandboxes from host to host, each as one file.
type Parcels interface {
	// Export writes one moment of a sandbox, now ("") or a snapshot.
	Export(ctx context.Context, ref, snapshot string, w io.Writer) error
	// Import makes a sandbox of what Export wrote; "" leaves it its name.
	Import(ctx context.Context, name string, r io.Reader) (client.Sandbox, error)
}

// Templates is what can be done with templates.
type Templates interface {
	// Build tells progress of each step and each line of output, one call at
	// a time, and returns the template. progress may be slow. A cancelled
	// build leaves nothing.
	Build(ctx context.Context, req client.BuildRequest, progress func(client.BuildEvent)) (client.Template, error)
	// SetSchedule changes what sandboxes begin with that are made from now on.
	SetSchedule(ctx context.Context, name string, req client.Schedule) (client.Template, error)
}

// Events returns recorded events in order. It ends after the last one or, if
// the query follows, with ctx. A slow reader holds nobody up.
type Events func(ctx context.Context, q EventQuery) iter.Seq2[client.Event, error]

// EventsVerified checks the log of events from its first line to its last.
type EventsVerified func(ctx context.Context) (client.EventsReport, error)

// EventQuery says which events to read.
type EventQuery struct {
	// Since leaves out events up to this number.
	Since uint64
	// SandboxID leaves out events of others, unless it is empty.
	SandboxID string
	// Type leaves out others: "egress" is every type that is it or begins with
	// "egress.".
	Type string
	// After leaves out events up to this time.
	After time.Time
	// Follow waits for further events after the last one.
	Follow bool
}

// Ready returns an error if the daemon cannot do its work although it runs.
type Ready func(ctx context.Context) error

// Metrics counts, and tells who scrapes.
type Metrics interface {
	http.Handler
	// Answered counts an answer. A route is one of the few that there are; a status
	// is 0 if the connection was cut.
	Answered(route string, status int, took time.Duration)
}

// Info describes the daemon.
type Info func(ctx context.Context) (client.Info, error)
