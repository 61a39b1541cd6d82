// Package files reads, writes and lists the files of a sandbox by its agent.
//
// files is given the way to the agent and must not know the daemon. What comes
// from a guest may be anything; it is bounded, and nothing becomes a path here.
package files

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"bulkhead/proto/filesystem"

	"connectrpc.com/connect"
)

// MaxListing bounds what a guest says of a folder, in bytes: some ten thousand
// entries.
const MaxListing = 8 << 20

// maxRefusal bounds what it says of an error.
const maxRefusal = 64 << 10

// Part is a piece of a file in a sandbox.
type Part struct {
	Data []byte
	// Size is that of the whole file in bytes, as the guest says; -1 if it does
	// not.
	Size int64
}

// Entry is a file or folder in a sandbox, as its guest says. Names may hold
// anything but a zero byte and a slash.
type Entry struct {
	Path string
	// Type is "file", "directory", "symlink" or "other"; of a link, that of what
	// it leads to if there is something.
	Type string
	Size int64
	// Mode has the permissions alone.
	Mode fs.FileMode
	// Modified is when its content last changed.
	Modified time.Time
	// Target is where a symlink leads.
	Target string
}

// Refused is the agent's answer to what it does not do.
type Refused struct {
	// Status is that of HTTP, Kind one of the kinds of package client.
	Status int
	Kind   string
	// Text is the guest's.
	Text string
}

// Error returns the text.
func (r *Refused) Error() string { return r.Text }

// Agent is the way to the agent of a sandbox, as a user of it.
type Agent struct {
	HTTP http.RoundTripper
	// Base begins every URL.
	Base string
	// Service is its filesystem service, which reads MaxListing bytes at most.
	Service interface {
		ListDir(context.Context, *connect.Request[filesystem.ListDirRequest]) (*connect.Response[filesystem.ListDirResponse], error)
	}
}

// Read reads at most most bytes of a file, beginning at from. A place behind the
// end has no bytes.
func (a Agent) Read(ctx context.Context, path string, from, most int64) (Part, error) {
	req, err := a.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return Part{}, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+most-1))
	resp, err := a.HTTP.RoundTrip(req)
	if err != nil {
		return Part{}, err
	}
	defer resp.Body.Close()
	p := Part{Size: -1}
	switch resp.StatusCode {
	case http.StatusOK: // the whole: an empty file, or one whose length nobody knows
		if _, err := io.CopyN(io.Discard, resp.Body, from); err != nil && !errors.Is(err, io.EOF) {
			return p, err
		}
		p.Size = resp.ContentLength
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		_, total, _ := strings.Cut(resp.Header.Get("Content-Range"), "/")
		if n, err := strconv.ParseInt(total, 10, 64); err == nil && n >= 0 {
			p.Size = n
		}
		if resp.StatusCode != http.StatusPartialContent {
			return p, nil
		}
	default:
		return p, refused(resp)
	}
	p.Data, err = io.ReadAll(io.LimitReader(resp.Body, most))
	return p, err
}

// Write makes a file of data, with the folders above it. One that exists keeps
// its owner and mode.
func (a Agent) Write(ctx context.Context, path string, data []byte) error {
	req, err := a.request(ctx, http.MethodPost, path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := a.HTTP.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	return nil
}

func (a Agent) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, method, a.Base+"/files?"+url.Values{"path": {path}}.Encode(), body)
}

// refused reads an error.
func refused(resp *http.Response) error {
	var said struct {
		Message string `json:"message"`
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if err != nil || json.Unmarshal(b, &said) != nil || said.Message == "" {
		said.Message = "answers " + strings.ToLower(resp.Status)
	}
	r := &Refused{Status: resp.StatusCode, Kind: "internal", Text: said.Message}
	switch r.Status {
	case http.StatusBadRequest:
		r.Kind = "invalid"
	case http.StatusUnauthorized, http.StatusForbidden:
		r.Kind = "denied"
	case http.StatusNotFound:
		r.Kind = "not_found"
	case http.StatusInsufficientStorage:
		r.Kind = "exhausted"
	}
	return r
}

// List lists a folder, and those below it down to a depth of at least 1.
func (a Agent) List(ctx context.Context, path string, depth int) ([]Entry, error) {
	resp, err := a.Service.ListDir(ctx, connect.NewRequest(&filesystem.ListDirRequest{Path: path, Depth: uint32(max(1, depth))}))
	if err != nil {
		return nil, err
	}
	all := []Entry{}
	for _, e := range resp.Msg.GetEntries() {
		all = append(all, Entry{
			Path: e.GetPath(), Type: typeName(e.GetType()), Size: e.GetSize(), Mode: fs.FileMode(e.GetMode()).Perm(),
			Modified: e.GetModifiedTime().AsTime(), Target: e.GetSymlinkTarget(),
		})
	}
	return all, nil
}

func typeName(t filesystem.FileType) string {
	switch t {
	case filesystem.FileType_FILE_TYPE_FILE:
		return "file"
	case filesystem.FileType_FILE_TYPE_DIRECTORY:
		return "directory"
	case filesystem.FileType_FILE_TYPE_SYMLINK:
		return "symlink"
	}
	return "other"
}
