package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Export writes one moment of a sandbox, now ("") or a snapshot, to w: a tar
// archive compressed by zstd, with memory, disk and policy, without secrets.
// After an error w has a part of one, which no Import takes.
func (c *Client) Export(ctx context.Context, ref, snapshot string, w io.Writer) error {
	resp, err := c.do(ctx, "GET", sandboxPath(ref, "export")+"?"+url.Values{"snapshot": {snapshot}}.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("export %s: %w", ref, c.lost(ctx, err))
	}
	return nil
}

// Import makes a sandbox of what Export wrote. name is what it is called, "" for
// its old name. The error is of kind "unsupported" if its machine cannot be
// loaded on this host.
func (c *Client) Import(ctx context.Context, name string, r io.Reader) (s Sandbox, err error) {
	path := c.way.Base + "/sandboxes/import?" + url.Values{"name": {name}}.Encode()
	// The reader alone: r is the caller's to close.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, path, struct{ io.Reader }{r})
	if err != nil {
		return s, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/zstd")
	resp, err := c.send(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return s, c.lost(ctx, err)
	}
	return s, nil
}
