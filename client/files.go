package client

import (
	"context"
	"errors"

	"bulkhead/client/files"
	"bulkhead/proto/filesystem/filesystemconnect"

	"connectrpc.com/connect"
)

// FilePart is a piece of a file in a sandbox.
type FilePart = files.Part

// Entry is a file or folder in a sandbox, as its guest says.
type Entry = files.Entry

// ReadFile reads at most most bytes of a file as root, beginning at from. A place
// behind the end has no bytes.
func (c *Client) ReadFile(ctx context.Context, ref, path string, from, most int64) (FilePart, error) {
	p, err := c.files(ref).Read(ctx, path, from, most)
	return p, fileError(err)
}

// WriteFile makes a file of data as root, with the folders above it. One that
// exists keeps its owner and mode.
func (c *Client) WriteFile(ctx context.Context, ref, path string, data []byte) error {
	return fileError(c.files(ref).Write(ctx, path, data))
}

// ListFolder lists a folder, and those below it down to a depth of at least 1.
func (c *Client) ListFolder(ctx context.Context, ref, path string, depth int) ([]Entry, error) {
	all, err := c.files(ref).List(ctx, path, depth)
	return all, fileError(err)
}

func (c *Client) files(ref string) files.Agent {
	way := guest{c, ref, "root"}
	return files.Agent{HTTP: way, Base: c.way.Base, Service: filesystemconnect.NewFilesystemClient(
		plainClient(way), c.way.Base, connect.WithReadMaxBytes(files.MaxListing))}
}

func fileError(err error) error {
	var r *files.Refused
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r):
		return &Error{Code: r.Status, Kind: r.Kind, Message: "in the sandbox: " + short(r.Text)}
	}
	return rpcError(err)
}
