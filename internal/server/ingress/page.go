package ingress

import (
	"fmt"
	"html"
	"net/http"
	"strconv"
	"strings"

	"bulkhead/internal/server/reply"
)

// wantsPage reports whether a browser has been sent somewhere, and somebody is to
// read the answer: what scripts fetch, and SDKs, do not ask for HTML.
func wantsPage(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// page is a refusal that a person reads. It has no style and no script, and its
// policy lets in neither, whatever somebody gets into it.
const page = `<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>%[1]s</title>
<h1>%[1]s</h1>
<p>%[2]s</p>
<p>%[3]s</p>
</html>
`

// show answers with a refusal as a page.
func show(w http.ResponseWriter, e refusal) {
	title := strconv.Itoa(e.Code) + " " + http.StatusText(e.Code)
	about := ""
	if e.SandboxID != "" {
		about = "Sandbox " + e.SandboxID
	}
	if e.Port != 0 {
		about += ", port " + strconv.Itoa(e.Port)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(e.Code)
	text := func(s string) string { return html.EscapeString(reply.OneLine(s)) }
	fmt.Fprintf(w, page, text(title), text(e.Message), text(about)) // the browser may be gone
}
