package page_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/server/page"
	"bulkhead/internal/server/page/desk"
	"bulkhead/internal/server/page/overview"
	"bulkhead/internal/server/page/session"
	"bulkhead/internal/server/page/terminal"
)

func get(t *testing.T, pattern, file string) (*httptest.ResponseRecorder, error) {
	t.Helper()
	p := &page.Page{Sessions: &session.Sessions{}, Live: &overview.Live{}, Desk: &desk.Desk{}, Terminals: &terminal.Room{}}
	r := httptest.NewRequest("GET", "/console/x", nil)
	r.SetPathValue("file", file)
	w := httptest.NewRecorder()
	return w, p.Routes()[pattern](w, r)
}

// What is loaded to draw the page, the terminal included, is small.
func TestBundleIsSmall(t *testing.T) {
	files, err := filepath.Glob("dist/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	var all bytes.Buffer
	z := gzip.NewWriter(&all)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		z.Write(b)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	const most = 300 << 10
	if all.Len() > most {
		t.Errorf("%d bytes compressed, of %d", all.Len(), most)
	}
}

// The page loads from this host alone, runs no script in markup, and is framed
// by nobody.
func TestPageIsClosed(t *testing.T) {
	w, err := get(t, "GET /{$}", "")
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("status %d, %v", w.Code, err)
	}
	csp := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("the policy lacks %s: %s", want, csp)
		}
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") || strings.Contains(csp, "*") {
		t.Errorf("the policy is open: %s", csp)
	}
	html := w.Body.String()
	for _, never := range []string{"http://", "https://", "//", "<style", "onload", "javascript:"} {
		if strings.Contains(html, never) {
			t.Errorf("the page has %q", never)
		}
	}
	if strings.Count(html, "<script") != 1 || !strings.Contains(html, `<script type="module" src="/console/app.js"></script>`) {
		t.Errorf("its scripts are %s", html)
	}
}

func TestAssets(t *testing.T) {
	for file, kind := range map[string]string{"app.js": "text/javascript", "app.css": "text/css", "icon.svg": "image/svg+xml"} {
		w, err := get(t, "GET /console/{file}", file)
		if err != nil || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v, %v", file, w.Header(), err)
		}
	}
	for _, file := range []string{"", ".", "..", "../static.go", "nothing.js", "dist"} {
		if _, err := get(t, "GET /console/{file}", file); !fault.Is(err, fault.NotFound) {
			t.Errorf("%q: %v", file, err)
		}
	}
}

// What a browser fetches is compressed, and is fetched once.
func TestAssetsAreCompressed(t *testing.T) {
	p := &page.Page{Sessions: &session.Sessions{}, Live: &overview.Live{}, Desk: &desk.Desk{}, Terminals: &terminal.Room{}}
	ask := func(accept, have string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/console/app.js", nil)
		r.SetPathValue("file", "app.js")
		r.Header.Set("Accept-Encoding", accept)
		r.Header.Set("If-None-Match", have)
		w := httptest.NewRecorder()
		if err := p.Routes()["GET /console/{file}"](w, r); err != nil {
			t.Fatal(err)
		}
		return w
	}
	plain, packed := ask("", ""), ask("br, gzip", "")
	if plain.Header().Get("Content-Encoding") != "" || packed.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("encodings %q, %q", plain.Header(), packed.Header())
	}
	z, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, plain.Body.Bytes()) {
		t.Errorf("it unpacks to %d bytes of %d, %v", len(got), plain.Body.Len(), err)
	}
	tag := packed.Header().Get("Etag")
	if again := ask("gzip", tag); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
		t.Errorf("what it has is sent again: %d", again.Code)
	}
	if other := ask("", tag); other.Code != http.StatusOK || other.Header().Get("Vary") != "Accept-Encoding" {
		t.Errorf("another encoding counts as the same: %d", other.Code)
	}
	if refused := ask("gzip;q=0", ""); refused.Header().Get("Content-Encoding") != "" {
		t.Error("who refuses compression gets it")
	}
}

// A file can be had as it was at a snapshot; what names none asks no guest.
func TestFilesOfAMoment(t *testing.T) {
	for at, want := range map[string]string{"": "ia", "monday": "ia@monday", "mon@day": "", "../x": "", "Monday": "", "-": ""} {
		var asked string
		d := &desk.Desk{Transport: func(_ context.Context, ref string) (http.RoundTripper, error) {
			asked = ref
			return nil, fault.New(fault.NotFound, "nobody is there")
		}}
		p := &page.Page{Sessions: &session.Sessions{}, Live: &overview.Live{}, Desk: d, Terminals: &terminal.Room{}}
		r := httptest.NewRequest("GET", "/x?"+url.Values{"path": {"/etc/motd"}, "at": {at}}.Encode(), nil)
		r.SetPathValue("ref", "ia")
		err := p.Routes()["GET /sandboxes/{ref}/file"](httptest.NewRecorder(), r)
		if asked != want || (want == "") != fault.Is(err, fault.Invalid) {
			t.Errorf("at %q: asked %q, %v", at, asked, err)
		}
	}
}
