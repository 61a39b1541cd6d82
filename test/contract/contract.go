// Package contract holds what a server answers to the description of its API
// (package openapi): every answer must be one that the document has, and in the
// end every request of the document must have been made.
//
// A Recorder stands between clients and the server. It sees what passes and
// changes nothing. It is safe for concurrent use.
package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"bulkhead/internal/server/openapi"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// Document is the description, ready to hold answers to.
type Document struct {
	operations []operation
}

// operation is one request that there is.
type operation struct {
	name string // "GET /sandboxes/{sandboxID}"
	path *regexp.Regexp
	// literal is how many parts of the path are no parameters: more is nearer.
	literal int
	method  string
	// answers maps a status, or "default", to schemas by media type.
	answers map[string]map[string]*jsonschema.Schema
}

// Load reads the server's document.
func Load() (*Document, error) {
	var raw any
	if err := yaml.Unmarshal([]byte(openapi.Document()), &raw); err != nil {
		return nil, err
	}
	root, err := plain(raw)
	if err != nil {
		return nil, err
	}
	const url = "openapi.json"
	c := jsonschema.NewCompiler()
	if err := c.AddResource(url, root); err != nil {
		return nil, err
	}
	d := &Document{}
	for path, item := range field(root, "paths") {
		for method, op := range object(item) {
			if method == "parameters" {
				continue
			}
			o := operation{
				name: strings.ToUpper(method) + " " + path, method: strings.ToUpper(method), path: matcher(path),
				literal: len(strings.Split(path, "/")) - strings.Count(path, "{"), answers: map[string]map[string]*jsonschema.Schema{},
			}
			for status, answer := range field(op, "responses") {
				at := pointer("paths", path, method, "responses", status)
				if status == "default" {
					answer, at = field(field(root, "components"), "responses")["Error"], pointer("components", "responses", "Error")
				}
				o.answers[status] = map[string]*jsonschema.Schema{}
				for media := range field(answer, "content") {
					s, err := c.Compile(url + "#" + at + pointer("content", media, "schema"))
					if err != nil {
						return nil, err
					}
					o.answers[status][media] = s
				}
			}
			d.operations = append(d.operations, o)
		}
	}
	slices.SortFunc(d.operations, func(a, b operation) int { return b.literal - a.literal })
	return d, nil
}

// plain makes what YAML gives into what JSON would.
func plain(v any) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(b))
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func field(v any, name string) map[string]any { return object(object(v)[name]) }

// pointer leads to a part of a document (RFC 6901).
func pointer(parts ...string) string {
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + escape.Replace(p))
	}
	return b.String()
}

func matcher(path string) *regexp.Regexp {
	parameter := regexp.MustCompile(`\\\{[^}]*\\\}`)
	return regexp.MustCompile("^" + parameter.ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + "$")
}

// Operations lists the requests that there are, as "GET /sandboxes/{sandboxID}".
func (d *Document) Operations() []string {
	var all []string
	for _, o := range d.operations {
		all = append(all, o.name)
	}
	slices.Sort(all)
	return all
}

// find returns the request that a method and an escaped path are.
func (d *Document) find(method, path string) (operation, bool) {
	for _, o := range d.operations {
		if o.method == method && o.path.MatchString(path) {
			return o, true
		}
	}
	return operation{}, false
}

// Check says in what way an answer is not one that the document has; "" in none.
func (o operation) check(resp *http.Response, body []byte) string {
	schemas, ok := o.answers[strconv.Itoa(resp.StatusCode)]
	if !ok && resp.StatusCode >= 400 {
		schemas, ok = o.answers["default"]
	}
	if !ok {
		return fmt.Sprintf("%s is answered with %d, of which the document knows nothing", o.name, resp.StatusCode)
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if len(schemas) == 0 {
		if len(body) > 0 {
			return fmt.Sprintf("%s %d has a body", o.name, resp.StatusCode)
		}
		return ""
	}
	schema, ok := schemas[media]
	if !ok {
		return fmt.Sprintf("%s %d is %q, want one of %q", o.name, resp.StatusCode, media, slices.Sorted(maps.Keys(schemas)))
	}
	switch media {
	case "application/json":
		return o.hold(schema, body)
	case "application/x-ndjson":
		for line := range bytes.Lines(body) {
			if why := o.hold(schema, line); why != "" {
				return why
			}
		}
	}
	return ""
}

func (o operation) hold(schema *jsonschema.Schema, body []byte) string {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		return fmt.Sprintf("%s: %v\nin %.500s", o.name, err, body)
	}
	return ""
}

// Recorder holds all answers of a server to a document. It is an
// http.RoundTripper to the server.
type Recorder struct {
	Document *Document
	Server   http.RoundTripper
	// Elsewhere reports whether a request is not for the API.
	Elsewhere func(*http.Request) bool

	mu       sync.Mutex
	made     map[string]bool // by operation; guarded by mu
	breaches []string        // guarded by mu
}

// RoundTrip passes a request on and looks at its answer. Streams are not looked
// into.
func (r *Recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.Server.RoundTrip(req)
	if err != nil || r.Elsewhere(req) {
		return resp, err
	}
	o, ok := r.Document.find(req.Method, req.URL.EscapedPath())
	if !ok {
		if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusMethodNotAllowed {
			r.breach(fmt.Sprintf("%s %s is not in the document and answered with %d", req.Method, req.URL.Path, resp.StatusCode))
		}
		return resp, nil
	}
	r.mark(o.name)
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if media != "application/json" && media != "application/x-ndjson" && media != "" || req.URL.Query().Has("follow") {
		return resp, nil
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	if why := o.check(resp, body); why != "" {
		r.breach(why)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func (r *Recorder) mark(operation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.made == nil {
		r.made = map[string]bool{}
	}
	r.made[operation] = true
}

func (r *Recorder) breach(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.breaches = append(r.breaches, why)
}

// Breaches lists the answers that were not as they must be.
func (r *Recorder) Breaches() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.breaches)
}

// Missing lists the requests of the document that nobody has made.
func (r *Recorder) Missing() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(r.Document.Operations(), func(o string) bool { return r.made[o] })
}
