package page

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"

	"bulkhead/internal/fault"
)

// dist is what web/ is built into, see make generate.
//
//go:embed dist
var dist embed.FS

// policy lets the page load what the host serves, and nothing else: no script
// or style in markup, no frame, no other host. Text can become script nowhere,
// not even by mistake: the places where it could take none (trusted types).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

func index(w http.ResponseWriter, r *http.Request) error { return serve(w, r, "index.html") }

func asset(w http.ResponseWriter, r *http.Request) error { return serve(w, r, r.PathValue("file")) }

// serve answers with an embedded file. Its name is one segment of a path.
func serve(w http.ResponseWriter, r *http.Request, name string) error {
	b, err := fs.ReadFile(dist, path.Join("dist", path.Base(name)))
	if err != nil {
		return fault.New(fault.NotFound, "the console has no file %.64q", name)
	}
	h := w.Header()
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	if strings.HasSuffix(name, ".js") {
		h.Set("Content-Type", "text/javascript; charset=utf-8") // whatever the host's table says
	}
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()")
	// Asked for anew each time, and sent anew when a release has changed it.
	sum := sha256.Sum256(b)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	h.Set("Etag", tag)
	h.Set("Cache-Control", "no-cache")
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(b) // nobody is left to tell
	return nil
}
