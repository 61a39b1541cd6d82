package files_test

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/client/files"
	agent "bulkhead/internal/guestd/files"
	"bulkhead/proto/filesystem/filesystemconnect"
	"bulkhead/test/leak"
)

// as sends requests as a user, over a connection of its own.
type as struct{ http.RoundTripper }

func (a as) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth("root", "")
	return a.RoundTripper.RoundTrip(r)
}

func agentOf(t *testing.T, h http.Handler) files.Agent {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	way := as{&http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	return files.Agent{HTTP: way, Base: srv.URL, Service: filesystemconnect.NewFilesystemClient(&http.Client{Transport: way}, srv.URL)}
}

// The real agent's files are written, read in pieces and listed.
func TestAgent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the agent acts as root on this host, and this is not root")
	}
	leak.Check(t)
	service := agent.New(agent.Options{})
	mux := http.NewServeMux()
	mux.Handle(service.Handler())
	mux.Handle("/files", service.Contents())
	a := agentOf(t, mux)
	dir := t.TempDir()
	long := bytes.Repeat([]byte("0123456789"), 1<<14)
	if err := a.Write(t.Context(), dir+"/new/long", long); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("long", dir+"/new/link"); err != nil {
		t.Fatal(err)
	}
	if err := a.Write(t.Context(), dir+"/new/empty", nil); err != nil {
		t.Fatal(err)
	}
	size := int64(len(long))
	for _, c := range []struct {
		name       string
		path       string
		from, most int64
		want       []byte
		size       int64
	}{
		{"all", "/new/long", 0, size + 5, long, size},
		{"a piece", "/new/long", 5, 10, long[5:15], size},
		{"the end", "/new/long", size - 3, 10, long[size-3:], size},
		{"behind the end", "/new/long", size + 3, 10, nil, size},
		{"an empty file", "/new/empty", 0, 10, nil, 0},
	} {
		p, err := a.Read(t.Context(), dir+c.path, c.from, c.most)
		if err != nil || !bytes.Equal(p.Data, c.want) || p.Size != c.size {
			t.Errorf("%s: %d bytes of %d, %v", c.name, len(p.Data), p.Size, err)
		}
	}
	if p, err := a.Read(t.Context(), "/proc/self/status", 0, 5); err != nil || string(p.Data) != "Name:" {
		t.Errorf("a file without a length: %q, %v", p.Data, err)
	}
	var r *files.Refused
	if _, err := a.Read(t.Context(), dir+"/none", 0, 1); !errors.As(err, &r) || r.Kind != "not_found" {
		t.Errorf("no such file: %v", err)
	}
	if err := a.Write(t.Context(), dir, nil); !errors.As(err, &r) || r.Kind != "invalid" {
		t.Errorf("write a folder: %v", err)
	}
	all, err := a.List(t.Context(), dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]files.Entry{}
	for _, e := range all {
		found[filepath.Base(e.Path)] = e
	}
	if e := found["long"]; e.Type != "file" || e.Size != size || e.Mode.Perm() == 0 || e.Modified.IsZero() {
		t.Errorf("got %+v", e)
	}
	if e := found["link"]; e.Type != "file" || !strings.HasSuffix(e.Target, "long") {
		t.Errorf("got %+v", e)
	}
	if e := found["new"]; e.Type != "directory" || e.Mode&fs.ModeType != 0 {
		t.Errorf("got %+v", e)
	}
}

// A guest may send anything: no more is taken than was asked for.
func TestHostile(t *testing.T) {
	leak.Check(t)
	answer := func(w http.ResponseWriter, r *http.Request) {}
	a := agentOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-1/-7")
		w.WriteHeader(http.StatusPartialContent)
		w.Write(bytes.Repeat([]byte("x"), 1<<20))
	}
	if p, err := a.Read(t.Context(), "/a", 0, 10); err != nil || len(p.Data) != 10 || p.Size != -1 {
		t.Errorf("%d bytes of %d, %v", len(p.Data), p.Size, err)
	}
	answer = func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		w.Write(bytes.Repeat([]byte("x"), 1<<20))
	}
	var r *files.Refused
	if _, err := a.Read(t.Context(), "/a", 0, 10); !errors.As(err, &r) || r.Kind != "internal" || len(r.Text) > 100 {
		t.Errorf("got %v", err)
	}
}
