package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/fault"
)

// maxMessage bounds the text of an error, which may quote a guest.
const maxMessage = 4 << 10

// Status returns the HTTP status of a kind of error. It is the only place
// that knows.
func Status(kind fault.Kind) int {
	switch kind {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Exists, fault.WrongState:
		return http.StatusConflict
	case fault.Denied:
		return http.StatusForbidden
	case fault.Exhausted:
		return http.StatusInsufficientStorage
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	case fault.Timeout:
		return http.StatusGatewayTimeout
	case fault.Unsupported:
		return http.StatusNotImplemented
	case fault.Corrupt, fault.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

// describe makes the answer to err.
func describe(ctx context.Context, err error) *client.Error {
	kind := fault.KindOf(err)
	if kind == fault.Internal && errors.Is(err, context.DeadlineExceeded) {
		kind = fault.Timeout
	}
	return &client.Error{
		Code: Status(kind), Message: oneLine(err.Error()), Kind: string(kind),
		Hint: fault.HintOf(err), RequestID: requestID(ctx),
	}
}

// oneLine makes text fit for a terminal: joined errors on one line, nothing
// that does not print, no more than maxMessage bytes.
func oneLine(s string) string {
	s = strings.ReplaceAll(s, "\n", "; ")
	if len(s) > maxMessage {
		s = s[:maxMessage] + "..."
	}
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// fail answers a request with err. It cuts the connection instead if an
// answer has begun, or if the request's context has ended: the client is gone,
// or the daemon is about to be.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := describe(r.Context(), err)
	ended := r.Context().Err() != nil
	if !ended {
		s.logFailure(r.Context(), r, e.Code, err)
	}
	if ended || begun(w) {
		panic(http.ErrAbortHandler)
	}
	writeJSON(w, e.Code, e)
}

// logFailure logs what a human must look at as an error, the rest for whoever
// debugs.
func (s *Server) logFailure(ctx context.Context, r *http.Request, status int, err error) {
	log := s.Log.DebugContext
	if status == http.StatusInternalServerError {
		log = s.Log.ErrorContext
	}
	log(ctx, "request failed", "request", requestID(ctx), "op", opOf(r), "err", err)
}
