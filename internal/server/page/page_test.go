package page_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
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
