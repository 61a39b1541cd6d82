package e2b

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/input"
	"bulkhead/internal/server/repeat"
)

// How long sandboxes live whose client does not say, in seconds: those of each
// generation, and forks.
const (
	firstTimeout  = 15
	secondTimeout = 300
	forkTimeout   = 15
)

// maxTimeout is the longest life that a client can ask for at once.
const maxTimeout = 30 * 24 * time.Hour

// checkTimeout refuses what is no time to live, in seconds.
func checkTimeout(seconds, least int) error {
	if seconds < least || time.Duration(seconds) > maxTimeout/time.Second {
		return fault.New(fault.Invalid, "timeout of %d seconds is not from %d to %d", seconds, least, maxTimeout/time.Second)
	}
	return nil
}

// create is of the second generation.
func (a *API) create(r *http.Request) (Reply, error) {
	req, err := a.readCreate(r, secondTimeout)
	if err != nil {
		return Reply{}, err
	}
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		return a.created(r, req)
	}
	if err := repeat.Check(key); err != nil {
		return Reply{}, err
	}
	who := auth.From(r.Context())
	req.IdempotencyKey = who.Team + "/" + who.Key + "/" + key
	return a.answers.Do(r.Context(), req.IdempotencyKey, a.Clock(), func() (Reply, error) { return a.created(r, req) })
}

// createFirst is of the first generation, in which a sandbox could be open to
// everybody. Ours never is, but what contradicts itself is told.
func (a *API) createFirst(r *http.Request) (Reply, error) {
	req, err := a.readCreate(r, firstTimeout)
	if err != nil {
		return Reply{}, err
	}
	if n := req.Network; !req.Secure && n != nil && n.AllowPublicTraffic != nil && !*n.AllowPublicTraffic {
		return Reply{}, fault.New(fault.Invalid, "allowPublicTraffic false needs secure true")
	}
	return a.created(r, req)
}

func (a *API) created(r *http.Request, req client.CreateRequest) (Reply, error) {
	s, err := a.Sandboxes.Create(r.Context(), req)
	return Reply{Status: http.StatusCreated, Body: s}, err
}

// readCreate reads what sandbox is asked for, with the timeout of one that does
// not say.
func (a *API) readCreate(r *http.Request, timeout int) (req client.CreateRequest, err error) {
	var fields decoded
	if err := input.JSON(r, &fields); err != nil {
		return req, err
	}
	if err := refuseAbsent(fields); err != nil {
		return req, err
	}
	if err := fields.into(&req); err != nil {
		return req, err
	}
	t, err := a.find(r.Context(), req.TemplateID)
	if err != nil {
		return req, err
	}
	req.TemplateID = t.Name
	if req.Timeout == nil && !req.Forever {
		req.Timeout = &timeout
	}
	if req.Timeout != nil {
		if err := checkTimeout(*req.Timeout, 1); err != nil {
			return req, err
		}
	}
	if m := req.AutoPauseMemory; m != nil && !*m {
		switch {
		case !req.AutoPause:
			return req, fault.New(fault.Invalid, "autoPauseMemory false needs autoPause true")
		case req.AutoResume != nil && req.AutoResume.Enabled:
			return req, fault.New(fault.Invalid, "autoPauseMemory false does not go with autoResume: a machine that boots is not resumed")
		}
	}
	if n := req.Network; n != nil && len(n.AllowOut)+len(n.DenyOut) > 0 {
		if err := auth.From(r.Context()).Need(auth.Admin); err != nil {
			return req, fmt.Errorf("network: %w", err)
		}
	}
	if err := checkMask(req.Network); err != nil {
		return req, err
	}
	return req, a.Networks.Check(req.Network, req.AllowInternetAccess)
}

// checkMask refuses a Host that services are to see and that is none.
func checkMask(n *client.Network) error {
	if n == nil || n.MaskRequestHost == "" {
		return nil
	}
	host := strings.ReplaceAll(n.MaskRequestHost, "${PORT}", "1")
	if !maskForm.MatchString(host) {
		return fault.New(fault.Invalid, "maskRequestHost: %q is no host", input.Quoted(n.MaskRequestHost))
	}
	return nil
}

// maskForm is a name or an address, and maybe a port.
var maskForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})(:[0-9]{1,5})?$`)

// into reads all fields into v.
func (d decoded) into(v any) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fault.New(fault.Invalid, "read request body: %w", err)
	}
	return nil
}

// refuseAbsent refuses a sandbox that is to have what we do not offer.
func refuseAbsent(fields decoded) error {
	for _, f := range []struct{ field, what, instead string }{
		{"mcp", "no MCP gateway runs in sandboxes", "start your MCP server in the sandbox"},
		{"iam", "sandboxes get no identity tokens", "let an egress rule add a secret: bulkhead secret"},
		{"volumeMounts", "this host has no volumes", "write files into the sandbox, or fork one that has them"},
	} {
		if fields.says(f.field) {
			return fault.New(fault.Unsupported, "%s: %s", f.field, f.what).Hint("%s", f.instead)
		}
	}
	var n decoded
	if json.Unmarshal(fields["network"], &n) == nil {
		return refuseNetwork(n)
	}
	return nil
}
