// Package desk gives a browser the files and programs of a sandbox in a form
// that is safe to give to one.
//
// A browser must never get a guest's answer as the guest wrote it: cookies,
// types and redirects would count for the host's own pages. So everything a
// guest says is read here, bounded, and written anew: lists as JSON, contents
// of files as attachments of no type.
//
// It must not know how a guest is reached. A Desk is safe for concurrent use.
package desk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"unicode/utf8"

	"connectrpc.com/connect"

	"bulkhead/internal/fault"
	"bulkhead/proto/filesystem/filesystemconnect"
	"bulkhead/proto/process/processconnect"
)

const (
	// base begins every URL to a guest; its host means nothing.
	base = "http://guest"
	// maxAnswer bounds what a guest may answer to a question: a folder of some
	// ten thousand entries.
	maxAnswer = 8 << 20
	// maxPath is PATH_MAX (path_resolution(7)).
	maxPath = 4096
	// maxText bounds what is passed on of a guest's error.
	maxText = 500
)

// Desk leads to guests.
type Desk struct {
	// Transport carries HTTP to the agent in a sandbox, or, for a ref like
	// otter@monday, in a snapshot.
	Transport func(ctx context.Context, ref string) (http.RoundTripper, error)
}

// pathOf returns the file that a request is about.
func pathOf(p string) (string, error) {
	if !strings.HasPrefix(p, "/") || len(p) > maxPath || strings.ContainsRune(p, 0) || !utf8.ValidString(p) {
		return "", fault.New(fault.Invalid, "query parameter path is not the path of a file").Hint("write it from the root: /etc/hostname")
	}
	return path.Clean(p), nil
}

// asRoot speaks to an agent as the guest's root.
type asRoot struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (a asRoot) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth("root", "")
	return a.next.RoundTrip(r)
}

func (d *Desk) client(ctx context.Context, ref string) (*http.Client, error) {
	t, err := d.Transport(ctx, ref)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: asRoot{t}, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}, nil
}

func (d *Desk) files(ctx context.Context, ref string) (filesystemconnect.FilesystemClient, error) {
	c, err := d.client(ctx, ref)
	if err != nil {
		return nil, err
	}
	return filesystemconnect.NewFilesystemClient(c, base, connect.WithReadMaxBytes(maxAnswer)), nil
}

func (d *Desk) processes(ctx context.Context, ref string) (processconnect.ProcessClient, error) {
	c, err := d.client(ctx, ref)
	if err != nil {
		return nil, err
	}
	return processconnect.NewProcessClient(c, base, connect.WithReadMaxBytes(maxAnswer)), nil
}

// kinds gives what an agent's codes mean.
var kinds = map[connect.Code]fault.Kind{
	connect.CodeInvalidArgument:   fault.Invalid,
	connect.CodeNotFound:          fault.NotFound,
	connect.CodeAlreadyExists:     fault.Exists,
	connect.CodePermissionDenied:  fault.Denied,
	connect.CodeUnauthenticated:   fault.Denied,
	connect.CodeResourceExhausted: fault.Exhausted,
	connect.CodeDeadlineExceeded:  fault.Timeout,
}

// explain makes an error of what an agent answered, and keeps one of the host's.
func explain(what string, err error) error {
	var ce *connect.Error
	if !errors.As(err, &ce) || !connect.IsWireError(err) {
		return fmt.Errorf("%s: %w", what, err)
	}
	kind, ok := kinds[ce.Code()]
	if !ok {
		kind = fault.Unavailable
	}
	return fault.New(kind, "in the sandbox: %s", short(ce.Message()))
}

func short(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
