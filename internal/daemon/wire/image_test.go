package wire_test

import (
	"strings"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/daemon/wire"
	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/template"
)

func TestRemote(t *testing.T) {
	for name, tt := range map[string]struct {
		reference string
		registry  *client.Registry
		want      template.Remote
		kind      fault.Kind
	}{
		"none":              {},
		"as nobody":         {"node:22", nil, template.Remote{Reference: "node:22"}, ""},
		"with a password":   {"x/y", &client.Registry{Type: "registry", Username: "me", Password: "p"}, template.Remote{Reference: "x/y", Username: "me", Password: "p"}, ""},
		"of Google's":       {"gcr.io/y", &client.Registry{Type: "gcp", ServiceAccountJSON: "{}"}, template.Remote{Reference: "gcr.io/y", Username: "_json_key", Password: "{}"}, ""},
		"of AWS":            {"x/y", &client.Registry{Type: "aws"}, template.Remote{}, fault.Unsupported},
		"of nobody":         {"x/y", &client.Registry{}, template.Remote{}, fault.Invalid},
		"without an image":  {"", &client.Registry{Type: "registry", Username: "me", Password: "p"}, template.Remote{}, fault.Invalid},
		"without password":  {"x/y", &client.Registry{Type: "registry", Username: "me"}, template.Remote{}, fault.Invalid},
		"with a long value": {"x/y", &client.Registry{Type: "registry", Username: "me", Password: strings.Repeat("x", 17<<10)}, template.Remote{}, fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := wire.Remote(tt.reference, tt.registry)
			if fault.KindOf(err) != tt.kind || err == nil && got != tt.want {
				t.Errorf("got %v, error %v", got.Reference, err)
			}
		})
	}
}
