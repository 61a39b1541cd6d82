// Package openapi holds the description of the API: the one document that tells
// clients which requests there are and what is answered.
//
// The document is written by hand beside this file. Tests hold it to the server's
// routes, and the server's answers to it.
package openapi

import _ "embed"

//go:embed openapi.yaml
var document string

// Document returns the description as YAML, in OpenAPI 3.1.
func Document() string { return document }
