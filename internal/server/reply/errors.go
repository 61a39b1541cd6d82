package reply

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
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
	case fault.Limited:
		return http.StatusTooManyRequests
	case fault.Corrupt, fault.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

// Describe makes the answer to err, for whoever is asking.
func Describe(ctx context.Context, err error) *client.Error {
	kind := fault.KindOf(err)
	if kind == fault.Internal && errors.Is(err, context.DeadlineExceeded) {
		kind = fault.Timeout
	}
	e := &client.Error{
		Code: Status(kind), Message: OneLine(err.Error()), Kind: string(kind),
		Hint: fault.HintOf(err), RequestID: RequestID(ctx),
	}
	if errors.Is(err, auth.ErrUnknown) {
		e.Code = http.StatusUnauthorized
	}
	// What is ours, such as paths on the host, is the operator's business.
	if e.Code == http.StatusInternalServerError && !auth.From(ctx).IsOperator() {
		e.Message, e.Kind, e.Hint = "internal error", string(fault.Internal), "tell whoever runs this host the request id"
	}
	return e
}

// OneLine makes text fit for a terminal: joined errors on one line, nothing
// that does not print, no more than maxMessage bytes.
func OneLine(s string) string {
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

// Fail answers a request with err. It cuts the connection instead if an
// answer has begun, or if the request's context has ended: the client is gone,
// the daemon is about to be, or the client's key is no longer good.
func Fail(log *slog.Logger, w http.ResponseWriter, r *http.Request, err error) {
	e := Describe(r.Context(), err)
	ended := r.Context().Err() != nil
	if !ended {
		LogFailure(log, r, e.Code, err)
	}
	if ended || begun(w) {
		panic(http.ErrAbortHandler)
	}
	if e.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", "1") // existing SDKs try again only if they are told when
	}
	JSON(w, e.Code, e)
}

// LogFailure logs what a human must look at as an error, the rest for whoever
// debugs.
func LogFailure(log *slog.Logger, r *http.Request, status int, err error) {
	level := slog.LevelDebug
	if status == http.StatusInternalServerError {
		level = slog.LevelError
	}
	log.Log(r.Context(), level, "request failed", "request", RequestID(r.Context()), "op", Op(r), "err", err)
}
