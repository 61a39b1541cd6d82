package desk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"

	"connectrpc.com/connect"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/proto/filesystem"
)

// maxEntries is how many files of a folder are listed.
const maxEntries = 5000

// maxNote bounds a request that names files.
const maxNote = 64 << 10

// List answers with what is in a folder.
func (d *Desk) List(ctx context.Context, ref, path string) (client.Folder, error) {
	f := client.Folder{Path: path, Entries: []client.FileEntry{}}
	path, err := pathOf(path)
	if err != nil {
		return f, err
	}
	files, err := d.files(ctx, ref)
	if err != nil {
		return f, err
	}
	resp, err := files.ListDir(ctx, connect.NewRequest(&filesystem.ListDirRequest{Path: path, Depth: 1}))
	if err != nil {
		return f, explain("list "+path, err)
	}
	entries := resp.Msg.GetEntries()
	if len(entries) > maxEntries {
		entries, f.More = entries[:maxEntries], true
	}
	for _, e := range entries {
		f.Entries = append(f.Entries, entry(e))
	}
	return f, nil
}

func entry(e *filesystem.EntryInfo) client.FileEntry {
	kinds := map[filesystem.FileType]string{
		filesystem.FileType_FILE_TYPE_FILE: "file", filesystem.FileType_FILE_TYPE_DIRECTORY: "folder",
	}
	kind, ok := kinds[e.GetType()]
	if !ok {
		kind = "other"
	}
	return client.FileEntry{
		Name: e.GetName(), Type: kind, Link: e.GetSymlinkTarget(), Size: e.GetSize(),
		Permissions: e.GetPermissions(), Owner: e.GetOwner(), Modified: e.GetModifiedTime().AsTime(),
	}
}

// Download answers with the bytes of a file, as something to keep and not to
// show: a guest's HTML must never be a page of this host.
func (d *Desk) Download(w http.ResponseWriter, r *http.Request, ref string) error {
	resp, name, err := d.contents(r.Context(), http.MethodGet, ref, r.URL.Query().Get("path"), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("Cache-Control", "no-store")
	if resp.ContentLength >= 0 {
		h.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	w.WriteHeader(http.StatusOK)
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// Upload writes the request's body to a file, which it makes if need be.
func (d *Desk) Upload(r *http.Request, ref string) error {
	resp, _, err := d.contents(r.Context(), http.MethodPost, ref, r.URL.Query().Get("path"), r.Body)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// contents asks an agent for a file, or gives it one. The answer is a success.
func (d *Desk) contents(ctx context.Context, method, ref, file string, body io.Reader) (*http.Response, string, error) {
	file, err := pathOf(file)
	if err != nil {
		return nil, "", err
	}
	guest, err := d.client(ctx, ref)
	if err != nil {
		return nil, "", err
	}
	req, err := http.NewRequestWithContext(ctx, method, base+"/files?"+url.Values{"path": {file}}.Encode(), body)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := guest.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("file %s: %w", file, errors.Unwrap(err)) // without the URL
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, "", refusal(resp)
	}
	return resp, path.Base(file), nil
}

// refusal reads what an agent says of a file that it does not give or take.
func refusal(resp *http.Response) error {
	var says struct {
		Message string `json:"message"`
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxNote))
	if err != nil || json.Unmarshal(b, &says) != nil || says.Message == "" {
		says.Message = "status " + strconv.Itoa(resp.StatusCode)
	}
	kind := fault.Unavailable
	switch resp.StatusCode {
	case http.StatusBadRequest:
		kind = fault.Invalid
	case http.StatusNotFound:
		kind = fault.NotFound
	case http.StatusForbidden, http.StatusUnauthorized:
		kind = fault.Denied
	case http.StatusInsufficientStorage:
		kind = fault.Exhausted
	}
	return fault.New(kind, "in the sandbox: %s", short(says.Message))
}

// MakeFolder makes a folder.
func (d *Desk) MakeFolder(ctx context.Context, ref, path string) error {
	path, err := pathOf(path)
	if err != nil {
		return err
	}
	files, err := d.files(ctx, ref)
	if err != nil {
		return err
	}
	if _, err = files.MakeDir(ctx, connect.NewRequest(&filesystem.MakeDirRequest{Path: path})); err != nil {
		return explain("make "+path, err)
	}
	return nil
}

// Remove removes a file, or a folder with all that is in it.
func (d *Desk) Remove(ctx context.Context, ref, path string) error {
	path, err := pathOf(path)
	if err != nil {
		return err
	}
	files, err := d.files(ctx, ref)
	if err != nil {
		return err
	}
	if _, err = files.Remove(ctx, connect.NewRequest(&filesystem.RemoveRequest{Path: path})); err != nil {
		return explain("remove "+path, err)
	}
	return nil
}

// Move renames a file.
func (d *Desk) Move(ctx context.Context, ref string, m client.FileMove) error {
	from, err := pathOf(m.From)
	if err != nil {
		return err
	}
	to, err := pathOf(m.To)
	if err != nil {
		return err
	}
	files, err := d.files(ctx, ref)
	if err != nil {
		return err
	}
	if _, err = files.Move(ctx, connect.NewRequest(&filesystem.MoveRequest{Source: from, Destination: to})); err != nil {
		return explain("move "+from, err)
	}
	return nil
}
