package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"strconv"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/reply"
)

// The headers that send a request into a sandbox, and the port that stands
// for the agent there.
const (
	sandboxHeader = "E2b-Sandbox-Id"
	portHeader    = "E2b-Sandbox-Port"
	agentPort     = 49983
)

// maxGuestHeader bounds the headers of an answer from a guest.
const maxGuestHeader = 64 << 10

// hostOnly begins the names of the agent's services that are for the host,
// such as bulkhead.machine.v1.Machine, which freezes the machine.
const hostOnly = "bulkhead."

func forGuest(r *http.Request) bool {
	return r.Header.Get(sandboxHeader) != "" || r.Header.Get(portHeader) != ""
}

// guestError is the answer to a request that did not get to the guest, in the
// form that existing SDKs know.
type guestError struct {
	SandboxID string `json:"sandboxId,omitempty"`
	Port      int    `json:"port,omitempty"`
	Path      string `json:"path,omitempty"`
	*client.Error
}

// toGuest passes a request on to the agent of a sandbox, both bodies as they
// come, at the same time if need be. The guest is hostile: its answer is
// bounded where the host has to hold it, and is otherwise the client's to
// judge: cookies, redirects and content are passed on as they are, which is
// harmless as long as no browser speaks to this socket.
func (s *Server) toGuest(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := s.streamContext(r.Context())
	defer cancel()
	r = r.WithContext(ctx)
	ref, port, err := guestAddress(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if isHostOnly(r.URL.Path) {
		s.refuse(w, r, guestError{Path: r.URL.Path, Error: &client.Error{
			Code: http.StatusNotFound, Kind: string(fault.NotFound), Message: "not found",
		}})
		return
	}
	transport, err := s.way(ctx, ref)
	if err != nil {
		s.unreachable(w, r, ref, err)
		return
	}
	if port != agentPort {
		s.refuse(w, r, guestError{SandboxID: ref, Port: port, Error: &client.Error{
			Code: http.StatusBadGateway, Kind: string(fault.Unavailable),
			Message: "The sandbox is running but port is not open",
		}})
		return
	}
	// Without it, the server would read the whole request before it lets the
	// first byte of the answer out.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		s.fail(w, r, err)
		return
	}
	s.reverse(ref, transport).ServeHTTP(w, r)
}

// way returns the way to the agent that a ref leads to, for who is asking.
func (s *Server) way(ctx context.Context, ref string) (http.RoundTripper, error) {
	p := auth.From(ctx)
	if !p.Known() {
		return nil, auth.ErrUnknown
	}
	if err := p.Need(auth.Operate); err != nil {
		return nil, err
	}
	ref, snapshot, past := strings.Cut(ref, "@")
	id, err := s.Sandboxes.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if past {
		id += "@" + snapshot
	}
	return s.Sandboxes.Transport(ctx, id)
}

// guestAddress returns the sandbox and the port that a request is for.
func guestAddress(r *http.Request) (ref string, port int, err error) {
	for _, h := range []string{sandboxHeader, portHeader} {
		if r.Header.Get(h) == "" {
			return "", 0, fault.New(fault.Invalid, "missing header %s", h)
		}
	}
	if ref, err = parseMoment(r.Header.Get(sandboxHeader)); err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(r.Header.Get(portHeader), 10, 16)
	if err != nil || n == 0 {
		return "", 0, fault.New(fault.Invalid, "header %s is not a port", portHeader)
	}
	if !strings.HasPrefix(r.URL.Path, "/") || r.Method == http.MethodConnect {
		return "", 0, fault.New(fault.Invalid, "%s without a path does not reach a sandbox", reply.OneLine(r.Method))
	}
	return ref, int(n), nil
}

// parseMoment returns s if it can name a sandbox, or a snapshot of one after
// an @.
func parseMoment(s string) (string, error) {
	ref, snapshot, past := strings.Cut(s, "@")
	if _, err := parseRef("sandbox", ref); err != nil {
		return "", err
	}
	if past {
		if _, err := parseRef("snapshot", snapshot); err != nil {
			return "", err
		}
	}
	return s, nil
}

// isHostOnly looks at every part of the path, because the agent's own router
// may normalise it: //x, /a/../x and escapes lead to x there.
func isHostOnly(path string) bool {
	for part := range strings.SplitSeq(strings.ToLower(path), "/") {
		if strings.HasPrefix(part, hostOnly) {
			return true
		}
	}
	return false
}

// unreachable answers for a sandbox that has nobody to talk to.
func (s *Server) unreachable(w http.ResponseWriter, r *http.Request, ref string, err error) {
	e := reply.Describe(r.Context(), err)
	switch fault.KindOf(err) {
	case fault.NotFound:
		e.Message = "The sandbox was not found"
	case fault.WrongState, fault.Unavailable:
	default:
		s.fail(w, r, err)
		return
	}
	e.Code = http.StatusBadGateway
	reply.LogFailure(s.Log, r, e.Code, err)
	s.refuse(w, r, guestError{SandboxID: ref, Error: e})
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, e guestError) {
	e.RequestID = reply.RequestID(r.Context())
	reply.JSON(w, e.Code, e)
}

// reverse returns the proxy for one request to a sandbox. If the guest's
// answer breaks off, it cuts the client's connection: an answer that only
// seems whole would be worse.
func (s *Server) reverse(ref string, transport http.RoundTripper) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:      quiet{transport},
		FlushInterval:  -1, // every piece at once
		Rewrite:        rewrite,
		ModifyResponse: checkAnswer,
		ErrorLog:       slog.NewLogLogger(s.Log.With("sandbox", ref).Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			reply.LogFailure(s.Log, r, http.StatusBadGateway, err)
			e := reply.Describe(r.Context(), err)
			if fault.KindOf(err) == fault.Internal { // of the connection to the guest
				e.Kind, e.Message = string(fault.Unavailable), reply.OneLine(fmt.Sprintf("sandbox %s does not answer: %v", ref, err))
			}
			e.Code = http.StatusBadGateway
			s.refuse(w, r, guestError{SandboxID: ref, Error: e})
		},
	}
}

// rewrite makes the request to the guest. Hop-by-hop headers are gone by now.
func rewrite(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host = "http", "guest"
	p.Out.Host = p.In.Host
	// The query as it came: signatures cover it, and it is the guest's to read.
	p.Out.URL.RawQuery = p.In.URL.RawQuery
	// The agent speaks plain HTTP only.
	p.Out.Header.Del("Connection")
	p.Out.Header.Del("Upgrade")
	// A key for the host is none of the guest's business.
	p.Out.Header.Del("X-Api-Key")
}

// checkAnswer refuses what no agent of ours would answer.
func checkAnswer(res *http.Response) error {
	// Below 200 is what upgrades a connection or, below 100, what package
	// net/http panics on.
	if res.StatusCode < 200 || res.StatusCode > 599 {
		return fmt.Errorf("status %d is not an answer", res.StatusCode)
	}
	size := 0
	for k, vs := range res.Header {
		for _, v := range vs {
			size += len(k) + len(v)
		}
	}
	if size > maxGuestHeader {
		return errors.New("headers of the answer are too large")
	}
	res.Header.Del("X-Request-Id") // ours is set already
	return nil
}

// quiet keeps informational answers (1xx) from the proxy, which would pass on
// any number of them. Without a listener for them, http.Transport counts them
// into its bound on response headers.
type quiet struct {
	http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (q quiet) RoundTrip(r *http.Request) (*http.Response, error) {
	return q.RoundTripper.RoundTrip(r.WithContext(untraced{r.Context()}))
}

// untraced hides the HTTP trace in a context.
type untraced struct {
	context.Context
}

// Value implements context.Context.
func (u untraced) Value(key any) any {
	v := u.Context.Value(key)
	if _, ok := v.(*httptrace.ClientTrace); ok {
		return nil
	}
	return v
}
