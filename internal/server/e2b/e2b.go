// Package e2b is the part of the API that clients of E2B know: their SDKs drive
// a host as they are. It is the same API that our own client speaks, with one
// handler for each path; where the two want something else, the request says so
// in a field that only ours sends.
//
// What E2B has two generations of is here in both. What it has and we do not
// offer is answered with 501 and why (absent.go), never with success.
//
// e2b reads requests, checks them, and writes answers; it decides nothing about
// sandboxes. It must not know how they are done. An API is safe for concurrent
// use.
package e2b

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/repeat"
)

// Sandboxes is what can be done with sandboxes as such.
type Sandboxes interface {
	List(ctx context.Context) ([]client.Sandbox, error)
	Get(ctx context.Context, ref string) (client.Sandbox, error)
	Create(ctx context.Context, req client.CreateRequest) (client.Sandbox, error)
	Remove(ctx context.Context, ref string) error
}

// Power is what can be done with their machines and their time.
type Power interface {
	// Pause is fault.WrongState for a sandbox that is paused.
	Pause(ctx context.Context, ref string, req client.PauseRequest) (client.Sandbox, error)
	// Resume is fault.WrongState for a sandbox that runs.
	Resume(ctx context.Context, ref string, req client.ResumeRequest) (client.Sandbox, error)
	// SetEnd has a sandbox that runs end at a time, or with onlyLater not before
	// it. It is fault.WrongState for one that does not run.
	SetEnd(ctx context.Context, ref string, at time.Time, onlyLater bool) (client.Sandbox, error)
	// Fork returns a sandbox or an error for each that was asked for.
	Fork(ctx context.Context, ref string, req client.ForkRequest) ([]client.Sandbox, []error, error)
}

// Snapshots is what can be done with moments of sandboxes.
type Snapshots interface {
	// Take takes a snapshot for the sandbox's timeline.
	Take(ctx context.Context, ref string, req client.SnapshotRequest) (client.Snapshot, error)
	// Publish takes one that outlives it: a template of that name.
	Publish(ctx context.Context, ref, name string) (client.Template, error)
}

// Templates is what sandboxes are created from, those snapshots among them, as
// far as they are there for who is asking. A name is "web" or "web:v2" for one
// that was built and belongs to the whole host, "team/web" or "team/web:v2" for a
// snapshot.
type Templates interface {
	List(ctx context.Context) ([]client.Template, error)
	// Find returns the first of these names that there is, without its size.
	Find(ctx context.Context, names ...string) (client.Template, error)
	Remove(ctx context.Context, name string) error
	// Tag has another name stand for a template as well.
	Tag(ctx context.Context, name, as string) error
}

// Networks decides what sandboxes may talk to.
type Networks interface {
	// Check returns a fault.Invalid error for what is no such configuration.
	Check(n *client.Network, internet *bool) error
	// SetNetwork replaces what a running sandbox may talk to.
	SetNetwork(ctx context.Context, ref string, n *client.Network, internet *bool) error
}

// Past is what is known of what a sandbox has done.
type Past interface {
	// Samples returns what its machine was like, oldest first.
	Samples(ctx context.Context, id string) ([]client.Metric, error)
	// Console returns the folder of its console, see server.Sandboxes.
	Console(ctx context.Context, ref string) (folder string, err error)
	// Events returns its events in order.
	Events(ctx context.Context, id string) iter.Seq2[client.Event, error]
}

// API is that part of the API. All fields are needed.
type API struct {
	Sandboxes Sandboxes
	Power     Power
	Snapshots Snapshots
	Templates Templates
	Networks  Networks
	Past      Past
	// Describe makes the answer to an error.
	Describe func(context.Context, error) *client.Error
	Clock    func() time.Time

	// answers are those to requests that may be sent again.
	answers repeat.Answers[Reply]
}

// Reply is an answer. A nil Body is none.
type Reply struct {
	Status int
	Header http.Header
	Body   any
}

// ok is an answer with nothing else to say about it.
func ok(body any) Reply { return Reply{Status: http.StatusOK, Body: body} }

// done is an answer without a body.
func done() Reply { return Reply{Status: http.StatusNoContent} }

// Routes maps patterns of http.ServeMux to what answers them. {ref} in one
// stands for a sandbox.
func (a *API) Routes() map[string]func(*http.Request) (Reply, error) {
	return map[string]func(*http.Request) (Reply, error){
		"POST /sandboxes":                  a.createFirst,
		"POST /v2/sandboxes":               a.create,
		"GET /sandboxes":                   a.listFirst,
		"GET /v2/sandboxes":                a.list,
		"GET /sandboxes/metrics":           a.latestMetrics,
		"GET /sandboxes/{ref}":             a.get,
		"DELETE /sandboxes/{ref}":          a.kill,
		"POST /sandboxes/{ref}/pause":      a.pause,
		"POST /sandboxes/{ref}/resume":     a.resume,
		"POST /sandboxes/{ref}/connect":    a.connectFirst,
		"POST /v2/sandboxes/{ref}/connect": a.connect,
		"POST /sandboxes/{ref}/timeout":    a.setTimeout,
		"POST /sandboxes/{ref}/refreshes":  a.refresh,
		"POST /sandboxes/{ref}/fork":       a.fork,
		"PUT /sandboxes/{ref}/network":     a.setNetwork,
		"POST /sandboxes/{ref}/snapshots":  a.snapshot,
		"GET /snapshots":                   a.listSnapshots,
		"GET /sandboxes/{ref}/metrics":     a.metrics,
		"GET /sandboxes/{ref}/logs":        a.logsFirst,
		"GET /v2/sandboxes/{ref}/logs":     a.logs,
		"GET /templates":                   a.listTemplates,
		"GET /v2/templates":                a.listTemplates,
		"GET /templates/{template}":        a.template,
		"DELETE /templates/{template}":     a.removeTemplate,
		"POST /templates/tags":             a.tag,
		"DELETE /templates/tags":           a.untag,
		"GET /templates/{template}/{part}": a.part,
	}
}

// decoded is a request's JSON in parts, so that one that says nothing can be
// told from one that says null.
type decoded map[string]json.RawMessage

// says reports whether a field is there and means something.
func (d decoded) says(field string) bool {
	switch string(d[field]) {
	case "", "null", "{}", "[]", "false":
		return false
	}
	return true
}

// notFound is the error about a sandbox that such clients do not know of.
func notFound(ref string) error { return fault.New(fault.NotFound, "sandbox %q not found", ref) }
