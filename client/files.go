package client

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
	"bulkhead/proto/filesystem/filesystemconnect"

	"connectrpc.com/connect"
)

// maxListing bounds what a guest says of a folder: some ten thousand entries.
const maxListing = 8 << 20

// FilePart is a piece of a file in a sandbox.
type FilePart struct {
	Data []byte
	// Size is that of the whole file in bytes, as the guest says; -1 if it does
	// not.
	Size int64
}

// Entry is a file or folder in a sandbox, as its guest says. Names may hold
// anything but a zero byte and a slash.
type Entry struct {
	Path string      `json:"path"`
	Type string      `json:"type"` // "file", "directory", "symlink" or "other"
	Size int64       `json:"size"`
	Mode fs.FileMode `json:"mode"`
	// Modified is when its content last changed.
	Modified time.Time `json:"modified"`
	// Target is where a symlink leads.
	Target string `json:"target,omitempty"`
}

// ReadFile reads at most most bytes of a file, as root, beginning at from. A
// place behind the end has no bytes.
func (c *Client) ReadFile(ctx context.Context, ref, path string, from, most int64) (FilePart, error) {
	req, err := c.fileRequest(ctx, http.MethodGet, path, nil)
	if err != nil {
		return FilePart{}, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+most-1))
	resp, err := guest{c, ref, "root"}.RoundTrip(req)
	if err != nil {
		return FilePart{}, err
	}
	defer resp.Body.Close()
	p := FilePart{Size: -1}
	switch resp.StatusCode {
	case http.StatusOK: // the whole: an empty file, or one whose length nobody knows
		if _, err := io.CopyN(io.Discard, resp.Body, from); err != nil && !errors.Is(err, io.EOF) {
			return p, guestCut(err)
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
		return p, guestRefusal(resp)
	}
	if p.Data, err = io.ReadAll(io.LimitReader(resp.Body, most)); err != nil {
		return p, guestCut(err)
	}
	return p, nil
}

// WriteFile makes a file of data, as root, with the folders above it. One that
// exists keeps its owner and mode.
func (c *Client) WriteFile(ctx context.Context, ref, path string, data []byte) error {
	req, err := c.fileRequest(ctx, http.MethodPost, path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := guest{c, ref, "root"}.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return guestRefusal(resp)
	}
	return nil
}

func (c *Client) fileRequest(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.way.Base+"/files?"+url.Values{"path": {path}}.Encode(), body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	return req, nil
}

// ListFolder lists a folder, and those below it down to a depth of at least 1.
func (c *Client) ListFolder(ctx context.Context, ref, path string, depth int) ([]Entry, error) {
	rpc := filesystemconnect.NewFilesystemClient(plainClient(guest{c, ref, "root"}), c.way.Base, connect.WithReadMaxBytes(maxListing))
	resp, err := rpc.ListDir(ctx, connect.NewRequest(&filesystem.ListDirRequest{Path: path, Depth: uint32(max(1, depth))}))
	if err != nil {
		return nil, rpcError(err)
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

// guestRefusal reads an error of the agent's /files.
func guestRefusal(resp *http.Response) error {
	var said struct {
		Message string `json:"message"`
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if err != nil || json.Unmarshal(b, &said) != nil || said.Message == "" {
		said.Message = "answers " + strings.ToLower(resp.Status)
	}
	kind, ok := map[int]string{
		http.StatusBadRequest: "invalid", http.StatusUnauthorized: "denied", http.StatusForbidden: "denied",
		http.StatusNotFound: "not_found", http.StatusInsufficientStorage: "exhausted",
	}[resp.StatusCode]
	if !ok {
		kind = "internal"
	}
	return &Error{Code: resp.StatusCode, Kind: kind, Message: "in the sandbox: " + short(said.Message)}
}

func guestCut(err error) error { return fmt.Errorf("%w: %s", ErrCutOff, short(err.Error())) }
