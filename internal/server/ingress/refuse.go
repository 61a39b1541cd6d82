package ingress

import (
	"errors"
	"net/http"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/reply"
)

// refusal is the answer to a request that did not get into a sandbox, in the
// form that existing SDKs know. Browsers get a page instead (page.go).
type refusal struct {
	SandboxID string `json:"sandboxId,omitempty"`
	Port      int    `json:"port,omitempty"`
	Path      string `json:"path,omitempty"`
	*client.Error
}

// plain is a refusal for who has no key: what SDKs look at, and nothing more.
type plain struct {
	SandboxID string `json:"sandboxId,omitempty"`
	Message   string `json:"message"`
	Port      int    `json:"port,omitempty"`
	Path      string `json:"path,omitempty"`
	Code      int    `json:"code"`
}

func (p *Proxy) refuse(w http.ResponseWriter, r *http.Request, e refusal) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // how the connection is cut, see package net/http
	}
	// So that a refusal does not wait for the rest of what is sent.
	w.Header().Set("Connection", "close")
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		panic(http.ErrAbortHandler)
	}
	if wantsPage(r) {
		show(w, e)
		return
	}
	if !auth.From(r.Context()).Known() {
		reply.JSON(w, e.Code, plain{e.SandboxID, e.Message, e.Port, e.Path, e.Code})
		return
	}
	e.RequestID = reply.RequestID(r.Context())
	reply.JSON(w, e.Code, e)
}

// misaddressed answers a request that names no port of a sandbox.
func (p *Proxy) misaddressed(w http.ResponseWriter, r *http.Request, err error) {
	e := reply.Describe(r.Context(), err)
	switch {
	case errors.Is(err, errBadSignature):
		e.Code = http.StatusUnauthorized
	case !auth.From(r.Context()).Known() && e.Code == http.StatusBadRequest:
		w.Header().Set("Connection", "close")
		http.Error(w, e.Message, e.Code)
		return
	}
	p.refuse(w, r, refusal{Error: e})
}

// unreachable answers for a sandbox that nobody is to be reached in, or not by
// who is asking.
func (p *Proxy) unreachable(w http.ResponseWriter, r *http.Request, a Address, err error) {
	e := reply.Describe(r.Context(), err)
	known := auth.From(r.Context()).Known()
	switch kind := fault.KindOf(err); {
	case errors.Is(err, auth.ErrUnknown), errors.Is(err, errPrivate):
	case kind == fault.Denied && a.Port == AgentPort && !known:
		e.Code = http.StatusUnauthorized
	case kind == fault.NotFound && strings.Contains(a.Ref, "@"): // a snapshot, of which SDKs know nothing
		e.Code = http.StatusBadGateway
	case kind == fault.NotFound:
		e.Code, e.Message = http.StatusBadGateway, "The sandbox was not found"
	case kind == fault.WrongState || kind == fault.Unavailable:
		e.Code = http.StatusBadGateway
		if !known {
			e.Message = "The sandbox was not found"
		}
	case kind == fault.Exhausted:
		e.Code = http.StatusTooManyRequests
	case e.Code == http.StatusBadRequest || e.Code == http.StatusInternalServerError:
		reply.Fail(p.Log, w, r, err)
		return
	}
	reply.LogFailure(p.Log, r, e.Code, err)
	p.refuse(w, r, refusal{SandboxID: a.Ref, Error: e})
}

// closed answers for a port that nothing listens on.
func (p *Proxy) closed(w http.ResponseWriter, r *http.Request, a Address) {
	p.refuse(w, r, refusal{SandboxID: a.Ref, Port: a.Port, Error: &client.Error{
		Code: http.StatusBadGateway, Kind: string(fault.Unavailable),
		Message: "The sandbox is running but port is not open",
	}})
}
