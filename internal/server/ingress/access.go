package ingress

import (
	"net/http"
	"slices"
	"strings"

	"bulkhead/internal/fault"
	"bulkhead/internal/server/token"
)

// What else than a key lets somebody in.
const (
	accessHeader  = "X-Access-Token"
	trafficHeader = "E2b-Traffic-Access-Token"
)

// Refusals that have a status of their own.
var (
	errNoToken      error = fault.New(fault.Denied, "unauthorized access, please provide a valid access token")
	errNoSignature  error = fault.New(fault.Denied, "missing signature query parameter")
	errBadSignature error = fault.New(fault.Denied, "invalid signature")
	errCrowded      error = fault.New(fault.Limited, "too many requests without a key are under way")
	errPrivate      error = fault.New(fault.Denied, "the ports of this sandbox are private: send %s", trafficHeader)
)

// mayAskAgent returns an error unless a request without a key may ask the agent
// of a sandbox: with its access token or, for files, a signature by it.
func (p *Proxy) mayAskAgent(r *http.Request, t target) error {
	access := p.Tokens.Access(t.id)
	got := r.Header.Get(accessHeader)
	switch {
	case token.Is(got, access):
		return nil
	case r.Method == http.MethodGet && r.URL.Path == "/health" && got == "":
		return asleep(t) // a stranger may ask, and wakes nobody
	case got != "" || !isFile(r):
		return errNoToken
	}
	f := fileOf(r)
	switch {
	case f.Signature == "":
		return errNoSignature
	case !token.Signed(f, access):
		return errBadSignature
	}
	return token.Fresh(f, p.Clock())
}

func asleep(t target) error {
	if t.rules.Paused {
		return fault.New(fault.WrongState, "sandbox %s is paused", t.id)
	}
	return nil
}

// isFile reports whether a request is for a file by the agent's own path.
func isFile(r *http.Request) bool {
	return r.URL.Path == "/files" && (r.Method == http.MethodGet || r.Method == http.MethodPost)
}

func fileOf(r *http.Request) token.File {
	q := r.URL.Query()
	return token.File{
		Path: q.Get("path"), User: q.Get("username"), Write: r.Method == http.MethodPost,
		Signature: q.Get("signature"), Expiration: q.Get("signature_expiration"),
	}
}

// hostOnly begins the names of the agent's services that are for the host,
// such as bulkhead.machine.v1.Machine, which freezes the machine.
const hostOnly = "bulkhead."

// controls are paths by which other agents are controlled. Ours has none of
// them; who looks for one is told so by us.
var controls = []string{"init", "freeze", "unfreeze", "collapse", "fsfreeze", "fsthaw", "upgrade"}

// isHostOnly looks at every part of the path, because the agent's own router
// may normalise it: //x, /a/../x and escapes lead to x there.
func isHostOnly(path string) bool {
	var last string
	parts := 0
	for part := range strings.SplitSeq(strings.ToLower(path), "/") {
		if strings.HasPrefix(part, hostOnly) {
			return true
		}
		if part != "" && part != "." {
			last = part
			parts++
		}
	}
	return parts == 1 && slices.Contains(controls, last)
}
