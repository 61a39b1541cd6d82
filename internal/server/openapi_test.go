package server_test

import (
	"net/http"
	"regexp"
	"slices"
	"testing"

	"bulkhead/internal/server"
	"bulkhead/test/contract"

	"github.com/google/go-cmp/cmp"
)

// The document and the server have the same routes, whatever parameters are
// called.
func TestDocumentHasEveryRoute(t *testing.T) {
	d, err := contract.Load()
	if err != nil {
		t.Fatal(err)
	}
	parameter := regexp.MustCompile(`\{[^}]*\}`)
	same := func(routes []string) []string {
		var all []string
		for _, r := range routes {
			if r == "POST /mcp" { // a protocol of its own, see package mcp
				continue
			}
			if r == "GET /templates/{template}/{part}" { // two paths in one, see package e2b
				all = append(all, "GET /templates/aliases/{}", "GET /templates/{}/tags")
				continue
			}
			all = append(all, parameter.ReplaceAllString(r, "{}"))
		}
		slices.Sort(all)
		return all
	}
	s := server.New(server.Options{E2B: fake{}.e2b(), Log: quietLog()})
	if diff := cmp.Diff(same(s.Patterns()), same(d.Operations())); diff != "" {
		t.Errorf("server (-) and document (+) differ:\n%s", diff)
	}
}

func TestDocumentIsServed(t *testing.T) {
	status, body, header := do(t, start(t, fake{}), "GET", "/openapi.yaml", "")
	if status != http.StatusOK || header.Get("Content-Type") != "application/yaml" || !regexp.MustCompile(`(?m)^openapi: 3\.1\.`).MatchString(body) {
		t.Errorf("%d %s %.100s", status, header.Get("Content-Type"), body)
	}
}
