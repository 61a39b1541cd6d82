package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"connectrpc.com/connect"
)

// agentPort is the port by which requests to a sandbox mean its agent.
const agentPort = "49983"

// Bounds for what a guest sends: of one message, the largest of which is a
// piece of output of 32 KiB; of an error's body; of an error's text.
const (
	maxMessage = 1 << 20
	maxRefusal = 64 << 10
	maxText    = 1 << 10
)

// guest is the way to the agent in a sandbox, acting as a user there.
type guest struct {
	c         *Client
	ref, user string
}

// RoundTrip adds to req what leads to the sandbox. Refusals of the daemon come
// back as *Error, answers of the agent as they are.
func (g guest) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("E2b-Sandbox-Id", g.ref)
	req.Header.Set("E2b-Sandbox-Port", agentPort)
	if g.c.way.GuestHost != "" {
		req.Host = g.c.way.GuestHost
	}
	req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(g.user+":")))
	resp, err := g.c.way.Transport.RoundTrip(req)
	if err != nil {
		return nil, g.c.lost(req.Context(), err)
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	resp.Body.Close()
	if e := g.refusal(resp, b); err == nil && e != nil {
		return nil, e
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp, nil
}

// refusal returns the daemon's own error, nil if the answer is the guest's. A
// guest can answer in the same form, with a hint that somebody might follow,
// but it does not know the request's id: that travels from the daemon to us
// only.
func (g guest) refusal(resp *http.Response, body []byte) *Error {
	e := &Error{}
	if json.Unmarshal(body, e) != nil || e.RequestID == "" || e.RequestID != resp.Header.Get("X-Request-Id") {
		return nil
	}
	if e.Kind == "not_found" && !strings.Contains(g.ref, "@") { // the proxy's text is the one that SDKs look for
		e.Message = fmt.Sprintf("sandbox %q not found", g.ref)
	}
	return e
}

// kindOf gives what the agent's RPC codes mean; what is not here is cut off or
// internal.
var kindOf = map[connect.Code]Error{
	connect.CodeInvalidArgument:   {Code: http.StatusBadRequest, Kind: "invalid"},
	connect.CodeUnauthenticated:   {Code: http.StatusForbidden, Kind: "denied"},
	connect.CodePermissionDenied:  {Code: http.StatusForbidden, Kind: "denied"},
	connect.CodeNotFound:          {Code: http.StatusNotFound, Kind: "not_found"},
	connect.CodeResourceExhausted: {Code: http.StatusInsufficientStorage, Kind: "exhausted"},
	connect.CodeDeadlineExceeded:  {Code: http.StatusGatewayTimeout, Kind: "timeout"},
	connect.CodeUnimplemented:     {Code: http.StatusNotImplemented, Kind: "unsupported"},
}

// rpcError turns the error of a call to the agent into an *Error.
func rpcError(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var ce *connect.Error
	if !errors.As(err, &ce) || !connect.IsWireError(err) {
		return fmt.Errorf("%w: %s", ErrCutOff, short(err.Error()))
	}
	known, ok := kindOf[ce.Code()]
	if !ok {
		known = Error{Code: http.StatusBadGateway, Kind: "internal"}
	}
	known.Message = "in the sandbox: " + short(ce.Message())
	return &known
}

// short bounds text that a guest may have written.
func short(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "..."
}
