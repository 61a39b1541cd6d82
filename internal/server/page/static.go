package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
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

// files are what is embedded, by name.
type files map[string]file

// file is one of them.
type file struct {
	plain, packed []byte
	kind, tag     string
}

// pack compresses what is embedded.
func pack() files {
	all := files{}
	entries, err := dist.ReadDir("dist")
	if err != nil {
		return all // nothing is embedded
	}
	for _, e := range entries {
		b, err := dist.ReadFile(path.Join("dist", e.Name()))
		if err != nil {
			continue // a folder
		}
		var packed bytes.Buffer
		z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is one that there is
		_, _ = z.Write(b)                                          // memory takes everything
		_ = z.Close()
		f := file{plain: b, packed: packed.Bytes(), kind: mime.TypeByExtension(path.Ext(e.Name()))}
		if strings.HasSuffix(e.Name(), ".js") {
			f.kind = "text/javascript; charset=utf-8" // whatever the host's table says
		}
		sum := sha256.Sum256(b)
		f.tag = hex.EncodeToString(sum[:8])
		all[e.Name()] = f
	}
	return all
}

// serve answers with an embedded file.
func (all files) serve(w http.ResponseWriter, r *http.Request, name string) error {
	f, ok := all[name]
	if !ok {
		return fault.New(fault.NotFound, "the console has no file %.64q", name)
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()")
	// Asked for anew each time, and sent anew when a release has changed it.
	h.Set("Cache-Control", "no-cache")
	h.Set("Vary", "Accept-Encoding")
	b, tag := f.plain, `"`+f.tag+`"`
	if takesGzip(r) {
		b, tag = f.packed, `"`+f.tag+`-gzip"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Etag", tag)
	if r.Header.Get("If-None-Match") == tag {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(b) // nobody is left to tell
	return nil
}

// takesGzip reports whether a client reads it; one that says how much it likes
// it (RFC 9110, section 12.5.3) gets the plain file.
func takesGzip(r *http.Request) bool {
	for c := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if strings.TrimSpace(c) == "gzip" {
			return true
		}
	}
	return false
}
