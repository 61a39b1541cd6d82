package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// maxAnswer bounds an answer that is not a stream: a host has a handful of
// sandboxes, an answer a few kilobytes.
const maxAnswer = 16 << 20

// Client speaks to one daemon. Every call ends when its context does. A
// request is sent once; only one that asks for something and changes nothing
// is repeated, if the connection it was sent on turns out to be dead.
//
// Errors that the daemon answers with are of type *Error. So are those of a
// daemon that is not there, with the Kind "unavailable".
type Client struct {
	way  Way
	http *http.Client
}

// Way is how a daemon is reached.
type Way struct {
	// Where is the socket or the URL, for messages.
	Where string
	// Base begins every URL.
	Base string
	// GuestHost is the Host of requests that go into a sandbox; "" for that of Base.
	GuestHost string
	Transport http.RoundTripper
}

// New returns a client of the daemon that listens on a unix socket. It does
// not connect yet. Package remote has one for daemons on TCP.
func New(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	// Who is meant is decided by the socket, not by the URL.
	return Over(Way{Where: socket, Base: "http://bulkhead", Transport: &http.Transport{DialContext: dial, DisableCompression: true}})
}

// Over returns a client that goes a way.
func Over(w Way) *Client { return &Client{way: w, http: plainClient(w.Transport)} }

// plainClient returns a client that follows no redirect: the daemon sends
// none, and a guest must not send us anywhere.
func plainClient(t http.RoundTripper) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// Close drops connections that wait for further requests. The client remains
// usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Health returns nil if the daemon answers.
func (c *Client) Health(ctx context.Context) error { return c.call(ctx, "GET", "/health", nil, nil) }

// Info describes the daemon.
func (c *Client) Info(ctx context.Context) (i Info, err error) {
	err = c.call(ctx, "GET", "/version", nil, &i)
	return i, err
}

// anyState has the daemon show sandboxes in every state. Without it there are
// only those that run or are paused, which is all that SDKs know of.
const anyState = "state=any"

// Sandboxes lists every sandbox, oldest first.
func (c *Client) Sandboxes(ctx context.Context) (all []Sandbox, err error) {
	all = []Sandbox{}
	for next := ""; ; {
		resp, err := c.do(ctx, "GET", "/v2/sandboxes?"+anyState+"&order=asc&nextToken="+url.QueryEscape(next), nil)
		if err != nil {
			return nil, err
		}
		var page []Sandbox
		if err := c.decode(ctx, resp, &page); err != nil {
			return nil, err
		}
		all = append(all, page...)
		if next = resp.Header.Get("X-Next-Token"); next == "" {
			slices.SortStableFunc(all, func(a, b Sandbox) int { return a.CreatedAt.Compare(b.CreatedAt) })
			return all, nil
		}
	}
}

// Create makes a sandbox and returns when its guest runs. If ctx ends before,
// the daemon takes back what it has made.
func (c *Client) Create(ctx context.Context, req CreateRequest) (s Sandbox, err error) {
	req.Forever = req.Timeout == nil
	err = c.call(ctx, "POST", "/v2/sandboxes", req, &s)
	return s, err
}

// Sandbox returns the sandbox that ref names: an id, a unique prefix of one,
// or a name.
func (c *Client) Sandbox(ctx context.Context, ref string) (s Sandbox, err error) {
	err = c.call(ctx, "GET", sandboxPath(ref)+"?"+anyState, nil, &s)
	return s, err
}

// Start boots a stopped or crashed sandbox from its disk.
func (c *Client) Start(ctx context.Context, ref string) (s Sandbox, err error) {
	err = c.call(ctx, "POST", sandboxPath(ref, "start"), nil, &s)
	return s, err
}

// Restart ends a machine, if it runs, and boots it from its disk.
func (c *Client) Restart(ctx context.Context, ref string) (s Sandbox, err error) {
	err = c.call(ctx, "POST", sandboxPath(ref, "restart"), nil, &s)
	return s, err
}

// Remove ends a sandbox and removes all that it has, its snapshots included.
func (c *Client) Remove(ctx context.Context, ref string) error {
	return c.call(ctx, "DELETE", sandboxPath(ref), nil, nil)
}

// Snapshot takes a snapshot of a running sandbox, for its timeline, and returns
// when it is safe on disk.
func (c *Client) Snapshot(ctx context.Context, ref string, req SnapshotRequest) (s Snapshot, err error) {
	req.Timeline = true
	err = c.call(ctx, "POST", sandboxPath(ref, "snapshots"), req, &s)
	return s, err
}

// RemoveSnapshot removes one snapshot; those taken after it stay.
func (c *Client) RemoveSnapshot(ctx context.Context, ref, snapshot string) error {
	return c.call(ctx, "DELETE", sandboxPath(ref, "snapshots", snapshot), nil, nil)
}

// Timeline returns the tree of a sandbox's snapshots.
func (c *Client) Timeline(ctx context.Context, ref string) (t Timeline, err error) {
	err = c.call(ctx, "GET", sandboxPath(ref, "timeline"), nil, &t)
	return t, err
}

// Pause writes a running sandbox out and ends its VMM.
func (c *Client) Pause(ctx context.Context, ref string, req PauseRequest) (Sandbox, error) {
	if err := c.call(ctx, "POST", sandboxPath(ref, "pause"), req, nil); err != nil {
		return Sandbox{}, err
	}
	return c.Sandbox(ctx, ref)
}

// Resume brings a paused sandbox back where it was.
func (c *Client) Resume(ctx context.Context, ref string) (s Sandbox, err error) {
	err = c.call(ctx, "POST", sandboxPath(ref, "resume"), ResumeRequest{}, &s)
	return s, err
}

// SetSchedule changes what is done for a sandbox while nobody looks.
func (c *Client) SetSchedule(ctx context.Context, ref string, req Schedule) (s Sandbox, err error) {
	err = c.call(ctx, "PUT", sandboxPath(ref, "schedule"), req, &s)
	return s, err
}

// Fork makes sandboxes that go on from one moment of another: all of them, or
// none.
func (c *Client) Fork(ctx context.Context, ref string, req ForkRequest) ([]Sandbox, error) {
	req.All, req.Forever = true, req.Timeout == nil
	var results []ForkResult
	if err := c.call(ctx, "POST", sandboxPath(ref, "fork"), req, &results); err != nil {
		return nil, err
	}
	all := []Sandbox{}
	for _, r := range results {
		if r.Sandbox == nil {
			return nil, &Error{Code: http.StatusBadGateway, Kind: "internal", Message: "daemon answers without a sandbox"}
		}
		all = append(all, *r.Sandbox)
	}
	return all, nil
}

// Rollback puts a sandbox back to one of its snapshots, in place. What it was is
// kept as a snapshot if it runs and answers, unless the request says otherwise.
func (c *Client) Rollback(ctx context.Context, ref string, req RollbackRequest) (r RollbackResult, err error) {
	err = c.call(ctx, "POST", sandboxPath(ref, "rollback"), req, &r)
	return r, err
}

// Console streams the console, beginning with its last tail bytes. With
// follow it goes on until ctx ends or the sandbox is removed. What it says is
// the guest's: raw bytes, escape sequences included. The caller closes it.
func (c *Client) Console(ctx context.Context, ref string, tail int, follow bool) (io.ReadCloser, error) {
	q := url.Values{"tail": {strconv.Itoa(tail)}}
	if follow {
		q.Set("follow", "1")
	}
	resp, err := c.do(ctx, "GET", sandboxPath(ref, "console")+"?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Templates lists every template.
func (c *Client) Templates(ctx context.Context) (all []Template, err error) {
	err = c.call(ctx, "GET", "/templates", nil, &all)
	return all, err
}

// SetTemplateSchedule changes what sandboxes begin with that are made from a
// template from now on.
func (c *Client) SetTemplateSchedule(ctx context.Context, name string, req Schedule) (t Template, err error) {
	err = c.call(ctx, "PUT", "/templates/"+segment(name)+"/schedule", req, &t)
	return t, err
}

// RemoveTemplate removes a template; sandboxes made from it keep what they
// have.
func (c *Client) RemoveTemplate(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", "/templates/"+segment(name), nil, nil)
}

// BuildTemplate builds a template and calls progress, which may be nil, for
// each event before the last. The build ends with ctx and then leaves nothing.
func (c *Client) BuildTemplate(ctx context.Context, req BuildRequest, progress func(BuildEvent)) (t Template, err error) {
	resp, err := c.do(ctx, "POST", "/templates", req)
	if err != nil {
		return t, err
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	for {
		var e BuildEvent
		if err := lines.Decode(&e); err != nil {
			return t, c.lost(ctx, err)
		}
		switch {
		case e.Error != nil:
			return t, e.Error
		case e.Template != nil:
			return *e.Template, nil
		case progress != nil:
			progress(e)
		}
	}
}

// EventQuery says which events to read.
type EventQuery struct {
	// Since leaves out events up to this number.
	Since uint64
	// Sandbox leaves out events of other sandboxes, unless it is empty.
	Sandbox string
	// Type leaves out others: "egress" is every type that is it or begins with
	// "egress.".
	Type string
	// After leaves out events up to this time.
	After time.Time
	// Follow waits for further events until the context ends.
	Follow bool
}

// Events calls each for every event, in order, until there are no more or
// each returns an error, which Events then returns.
func (c *Client) Events(ctx context.Context, q EventQuery, each func(Event) error) error {
	v := url.Values{"since": {strconv.FormatUint(q.Since, 10)}}
	if q.Sandbox != "" {
		v.Set("sandbox", q.Sandbox)
	}
	if q.Type != "" {
		v.Set("type", q.Type)
	}
	if !q.After.IsZero() {
		v.Set("after", q.After.Format(time.RFC3339Nano))
	}
	if q.Follow {
		v.Set("follow", "1")
	}
	resp, err := c.do(ctx, "GET", "/events?"+v.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return readLines(ctx, c, resp.Body, each)
}

// readLines calls each with every value of an answer of lines.
func readLines[T any](ctx context.Context, c *Client, body io.Reader, each func(T) error) error {
	lines := json.NewDecoder(body)
	for {
		var v T
		err := lines.Decode(&v)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.lost(ctx, err)
		}
		if err := each(v); err != nil {
			return err
		}
	}
}

// Diff calls each with every file that differs between two snapshots of a
// sandbox; "" is the machine as it is now. An error from each ends it.
func (c *Client) Diff(ctx context.Context, ref, from, to string, each func(FileChange) error) error {
	v := url.Values{"from": {from}, "to": {to}}
	resp, err := c.do(ctx, "GET", sandboxPath(ref, "diff")+"?"+v.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return readLines(ctx, c, resp.Body, each)
}

// EventsReport says what the whole log of events holds.
type EventsReport struct {
	// First and Last are event numbers, 0 for an empty log. First is above 1
	// once the oldest have made room.
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	// Hash is that of the last line. Whoever keeps it elsewhere can tell later
	// whether what was before it is what it was.
	Hash string `json:"hash"`
}

// VerifyEvents checks the log of events from its first line to its last. The
// error names the first line that was edited, or is missing.
func (c *Client) VerifyEvents(ctx context.Context) (r EventsReport, err error) {
	err = c.call(ctx, "GET", "/events/verified", nil, &r)
	return r, err
}

func sandboxPath(ref string, more ...string) string {
	path := "/sandboxes/" + segment(ref)
	for _, m := range more {
		path += "/" + segment(m)
	}
	return path
}

// segment makes any text one segment of a path: an empty one would name
// another route, and dots would be cleaned away.
func segment(s string) string {
	switch s {
	case "", ".", "..":
		return "%00" + s
	}
	return url.PathEscape(s)
}

// call is do for an answer that is one JSON value, or none.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.do(ctx, method, path, in)
	if err != nil {
		return err
	}
	if out == nil {
		return resp.Body.Close()
	}
	return c.decode(ctx, resp, out)
}

// decode reads an answer that is one JSON value, and closes it.
func (c *Client) decode(ctx context.Context, resp *http.Response, out any) error {
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return c.lost(ctx, err)
	}
	return nil
}

// do sends a request and returns an answer that is no error. The caller
// closes its body.
func (c *Client) do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.way.Base+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if create, ok := in.(CreateRequest); ok && create.IdempotencyKey != "" {
		req.Header.Set("Idempotency-Key", create.IdempotencyKey)
	}
	return c.send(req)
}

// send returns an answer that is no error. The caller closes its body.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.lost(req.Context(), err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, asError(resp)
	}
	return resp, nil
}
