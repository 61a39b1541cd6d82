// Package ingress leads from the host into sandboxes: requests of programs and
// browsers to what serves there, the agent and whatever else listens.
//
// Who has a key of the sandbox's team with the scope operate may ask anything.
// Others come without: to the agent with the sandbox's access token or the
// signature of a file's URL, to any other port freely, unless the sandbox keeps
// its ports private. What they are told is what existing SDKs expect to read.
//
// What is in a sandbox is hostile, and so may be who asks. Both bodies are passed
// on as they come; what the host has to hold of them is bounded.
//
// ingress must not know how a sandbox is reached or run. A Proxy is safe for
// concurrent use.
package ingress

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"bulkhead/client"
	"bulkhead/internal/duplex"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/reply"
	"bulkhead/internal/server/token"
)

// Rules say how a sandbox's own ports may be reached.
type Rules struct {
	// Private ports are for those alone who have the traffic token or a key.
	Private bool
	// MaskHost is the Host that services get to see, in which ${PORT} stands for
	// theirs; "" for the one that was asked for.
	MaskHost string
	// Paused means that the machine sleeps; what is asked of it wakes it.
	Paused bool
}

// Sandboxes leads into sandboxes. Ids are whole ones.
type Sandboxes interface {
	// Resolve returns the id that a ref names for who is asking, or
	// fault.NotFound.
	Resolve(ctx context.Context, ref string) (id string, err error)
	// Rules returns the rules of a sandbox of any team, or fault.NotFound.
	Rules(ctx context.Context, id string) (Rules, error)
	// IDs lists the sandboxes of all teams.
	IDs(ctx context.Context) []string
	// Transport carries HTTP to the agent in a sandbox, or, for id@snapshot, in a
	// snapshot, for one request; the host of a request's URL means nothing to it.
	// It bounds the size of response headers and honours a request's context. It
	// wakes who sleeps and may be woken. fault.NotFound, fault.WrongState or
	// fault.Unavailable say that nobody is there.
	Transport(ctx context.Context, id string) (http.RoundTripper, error)
	// DialPort connects to a port in a sandbox, those of its loopback included,
	// until its machine ends. fault.Unavailable says that nothing listens.
	DialPort(ctx context.Context, id string, port uint16) (duplex.Conn, error)
}

// Proxy passes requests on into sandboxes.
type Proxy struct {
	Sandboxes Sandboxes
	Tokens    token.Seed
	// Clock is the host's time.
	Clock func() time.Time
	// Patience is how long what is written to a file may stand still.
	Patience time.Duration
	// Strangers is how many requests of those who have no key may be under way
	// together: they share a door with those who have one.
	Strangers int64
	Log       *slog.Logger

	strangers atomic.Int64
}

// Find is the function Find, and knows signatures of files' URLs too, which name
// no sandbox: it is the one whose token has signed.
func (p *Proxy) Find(r *http.Request) (a Address, ok bool, err error) {
	a, ok, err = Find(r)
	if ok || !isFile(r) || r.URL.Query().Get("signature") == "" {
		return a, ok, err
	}
	f := fileOf(r)
	for _, id := range p.Sandboxes.IDs(r.Context()) {
		if token.Signed(f, p.Tokens.Access(id)) {
			return Address{Ref: id, Port: AgentPort}, true, nil
		}
	}
	return Address{}, true, errBadSignature
}

// Serve passes a request on to an address, or answers for the error with which
// Find did not find it.
func (p *Proxy) Serve(w http.ResponseWriter, r *http.Request, a Address, err error) {
	if err == nil && (!strings.HasPrefix(r.URL.Path, "/") || r.Method == http.MethodConnect) {
		err = fault.New(fault.Invalid, "%s without a path does not reach a sandbox", reply.OneLine(r.Method))
	}
	if err != nil {
		p.misaddressed(w, r, err)
		return
	}
	if a.Port == AgentPort && isHostOnly(r.URL.Path) {
		p.refuse(w, r, refusal{Path: r.URL.Path, Error: &client.Error{
			Code: http.StatusNotFound, Kind: string(fault.NotFound), Message: "not found",
		}})
		return
	}
	to, err := p.admit(r, a)
	if err == nil && !auth.From(r.Context()).Known() {
		defer p.strangers.Add(-1)
		if p.strangers.Add(1) > p.Strangers {
			err = errCrowded
		}
	}
	if err != nil {
		p.unreachable(w, r, a, err)
		return
	}
	// Without it, the server would read the whole request before it lets the
	// first byte of the answer out.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		reply.Fail(p.Log, w, r, err)
		return
	}
	if a.Port == AgentPort {
		p.toAgent(w, r, a, to.id)
		return
	}
	p.toPort(w, r, a, to)
}

// target is a sandbox that who is asking may ask.
type target struct {
	id    string
	rules Rules
}

// admit returns the sandbox that an address names, if who is asking may ask it.
func (p *Proxy) admit(r *http.Request, a Address) (t target, err error) {
	ref, snapshot, past := strings.Cut(a.Ref, "@")
	if past && a.Port != AgentPort {
		return t, fault.New(fault.Invalid, "a snapshot has no port but that of its agent")
	}
	t.id, err = p.byKey(r.Context(), ref)
	switch {
	case err == nil && past:
		t.id += "@" + snapshot
	case err == nil && a.Port != AgentPort:
		t.rules, err = p.Sandboxes.Rules(r.Context(), t.id)
	case !past && !auth.From(r.Context()).IsOperator() && (fault.Is(err, fault.Denied) || fault.Is(err, fault.NotFound)):
		return p.byToken(r, a, err)
	}
	return t, err
}

// byKey returns the sandbox that a ref names for who has a key.
func (p *Proxy) byKey(ctx context.Context, ref string) (string, error) {
	who := auth.From(ctx)
	if !who.Known() {
		return "", auth.ErrUnknown
	}
	if err := who.Need(auth.Operate); err != nil {
		return "", err
	}
	return p.Sandboxes.Resolve(ctx, ref)
}

// byToken returns the sandbox of a whole id for who comes without a key, or with
// one that does not do: why says that.
func (p *Proxy) byToken(r *http.Request, a Address, why error) (t target, err error) {
	t = target{id: a.Ref}
	if t.rules, err = p.Sandboxes.Rules(r.Context(), t.id); err != nil {
		return t, err
	}
	if a.Port == AgentPort {
		err = p.mayAskAgent(r, t)
	} else if t.rules.Private && !token.Is(r.Header.Get(trafficHeader), p.Tokens.Traffic(t.id)) {
		err = errPrivate
	}
	if err != nil && auth.From(r.Context()).Known() {
		err = why
	}
	return t, err
}
