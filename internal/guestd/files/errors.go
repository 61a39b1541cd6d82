package files

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"syscall"

	"connectrpc.com/connect"

	"bulkhead/internal/fault"
)

// kindOf returns the kind of an error, and for one of the system calls, which
// have none, what it means to a client. Order matters: Go counts ENOTEMPTY as
// fs.ErrExist.
func kindOf(err error) fault.Kind {
	if kind := fault.KindOf(err); kind != fault.Internal {
		return kind
	}
	for _, k := range meanings {
		if errors.Is(err, k.err) {
			return k.kind
		}
	}
	if corrupt := flate.CorruptInputError(0); errors.As(err, &corrupt) {
		return fault.Invalid
	}
	return fault.Internal
}

var meanings = [...]struct {
	err  error
	kind fault.Kind
}{
	{fs.ErrNotExist, fault.NotFound},
	{syscall.ENOTDIR, fault.NotFound}, // a file where the path needs a directory
	{syscall.ENOTEMPTY, fault.WrongState},
	{fs.ErrExist, fault.Exists},
	{syscall.ENOSPC, fault.Exhausted},
	{syscall.EDQUOT, fault.Exhausted},
	{syscall.EMFILE, fault.Exhausted},
	{syscall.EISDIR, fault.Invalid},
	{syscall.EINVAL, fault.Invalid},
	{syscall.ENAMETOOLONG, fault.Invalid},
	{syscall.ELOOP, fault.Invalid},
	{syscall.EXDEV, fault.WrongState},
	{syscall.EBUSY, fault.WrongState},
	{syscall.ETXTBSY, fault.WrongState},
	{syscall.EROFS, fault.WrongState},
	{fs.ErrPermission, fault.WrongState}, // root is refused by attributes such as immutable
	{gzip.ErrHeader, fault.Invalid},
	{gzip.ErrChecksum, fault.Invalid},
	{io.ErrUnexpectedEOF, fault.Invalid},
	{context.DeadlineExceeded, fault.Timeout},
	{context.Canceled, fault.Unavailable},
}

// Code returns the RPC code of a kind. SDKs branch on these.
func Code(kind fault.Kind) connect.Code {
	switch kind {
	case fault.Invalid:
		return connect.CodeInvalidArgument
	case fault.NotFound:
		return connect.CodeNotFound
	case fault.Exists:
		return connect.CodeAlreadyExists
	case fault.WrongState:
		return connect.CodeFailedPrecondition
	case fault.Denied: // only an unknown user is denied anything
		return connect.CodeUnauthenticated
	case fault.Exhausted, fault.Limited:
		return connect.CodeResourceExhausted
	case fault.Unavailable:
		return connect.CodeUnavailable
	case fault.Timeout:
		return connect.CodeDeadlineExceeded
	case fault.Unsupported:
		return connect.CodeUnimplemented
	case fault.Corrupt:
		return connect.CodeDataLoss
	}
	return connect.CodeInternal
}

// Status returns the HTTP status of a kind. SDKs branch on these.
func Status(kind fault.Kind) int {
	switch kind {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Exists, fault.WrongState:
		return http.StatusConflict
	case fault.Denied:
		return http.StatusUnauthorized
	case fault.Exhausted:
		return http.StatusInsufficientStorage
	case fault.Limited:
		return http.StatusTooManyRequests
	case fault.Unavailable, fault.Timeout:
		// 502 to 504 would make SDKs believe that the whole sandbox is gone.
		return http.StatusRequestTimeout
	case fault.Unsupported:
		return http.StatusNotAcceptable
	}
	return http.StatusInternalServerError
}

// rpcError gives an error its RPC code.
func rpcError(err error) error { return connect.NewError(Code(kindOf(err)), err) }

// endpoint is an HTTP handler whose error, if it has one, is still to be
// answered.
type endpoint func(w http.ResponseWriter, r *http.Request) error

// ServeHTTP answers an error with the body that clients know.
func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := e(w, r)
	if err == nil {
		return
	}
	status := Status(kindOf(err))
	writeJSON(w, status, map[string]any{"code": status, "message": err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails only if the client has gone
}
