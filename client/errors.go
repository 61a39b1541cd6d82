package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// ErrCutOff means that the sandbox or the daemon went away while a program
// ran. The program may still run.
var ErrCutOff error = &Error{
	Code: http.StatusBadGateway, Kind: "unavailable", Message: "connection to the sandbox was cut", Hint: "bulkhead ls",
}

// lost makes the error of a request that got no whole answer.
func (c *Client) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("ask the daemon: %w", context.Cause(ctx))
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	e := &Error{
		Code: http.StatusServiceUnavailable, Kind: "unavailable",
		Message: fmt.Sprintf("daemon at %s does not answer: %v", c.way.Where, err), Hint: "look into the daemon's log",
	}
	switch {
	case strings.Contains(c.way.Where, "://") && errors.Is(err, syscall.ECONNREFUSED):
		e.Message, e.Hint = "nobody listens at "+c.way.Where, "is the daemon's listen or listen_tls set?"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		e.Message, e.Hint = "no daemon listens on "+c.way.Where, "start it: bulkhead serve"
	case errors.Is(err, fs.ErrPermission):
		e.Code, e.Kind = http.StatusForbidden, "denied"
		e.Message, e.Hint = "no permission to use "+c.way.Where, "the socket is for the user who runs the daemon: become root"
	}
	return e
}

// asError reads the daemon's error from an answer.
func asError(resp *http.Response) error {
	e := &Error{}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil || json.Unmarshal(b, e) != nil || e.Message == "" {
		e = &Error{Message: "daemon answers " + strings.ToLower(resp.Status)}
	}
	e.Code = resp.StatusCode
	return e
}
