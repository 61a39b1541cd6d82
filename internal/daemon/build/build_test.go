package build_test

import (
	"context"
	"testing"

	"bulkhead/internal/daemon/build"
	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/recipe"
	"bulkhead/internal/sandbox/recipe/record"
	"bulkhead/internal/sandbox/template"

	"github.com/google/go-cmp/cmp"
)

// shelf has the template base, and prepares any image.
type shelf struct{ asked template.Spec }

func (*shelf) Get(_ context.Context, name string) (template.Template, error) {
	if name != "base" {
		return template.Template{}, fault.New(fault.NotFound, "template %q not found", name)
	}
	return template.Template{Name: name, Snapshot: "sbase"}, nil
}

func (s *shelf) Prepare(_ context.Context, spec template.Spec, tell template.Progress) (template.Base, error) {
	s.asked = spec
	tell(template.Step{Name: "pull"})
	tell(template.Step{Log: "layer\x1b[31m 1"})
	tell(template.Step{Name: "pull", Done: true})
	return template.Base{Key: "k"}, nil
}

// The image that SDKs start from unless they are told another is the template
// base; all others come from registries.
func TestBases(t *testing.T) {
	for ref, own := range map[string]bool{
		"e2bdev/base": true, "e2bdev/base:latest": true, "docker.io/e2bdev/base:v1": true, "e2bdev/base@sha256:00": true,
		"base": false, "debian:12": false, "evil.example/e2bdev/base": false, "e2bdev/base2": false, "library/e2bdev/base": false,
	} {
		s := &shelf{}
		b := build.Bases{Templates: s, Size: live.Size{CPUs: 1, MemoryMiB: 512}, DiskMiB: 4096}
		img := recipe.Image{Ref: ref, Registry: recipe.Registry{Kind: "registry", User: "me", Password: "open"}}
		var said []string
		got, err := b.FromImage(t.Context(), img, live.Size{MemoryMiB: 768}, func(line string) { said = append(said, line) })
		want := template.Spec{
			Name: "image", Size: live.Size{CPUs: 1, MemoryMiB: 768}, DiskMiB: 4096, From: template.Remote{Reference: ref, Username: "me", Password: "open"},
		}
		if own {
			if err != nil || got.Name != "base" || got.Key != "sbase" || len(said) != 1 {
				t.Errorf("%s: %v, %v, said %q", ref, got, err, said)
			}
			continue
		}
		if diff := cmp.Diff(want, s.asked); err != nil || got.Key != "k" || diff != "" {
			t.Errorf("%s: %v, %v (-want +got):\n%s", ref, got, err, diff)
		}
		if diff := cmp.Diff([]string{"pull", "layer 1"}, said); diff != "" {
			t.Errorf("%s: said (-want +got):\n%s", ref, diff)
		}
	}
}

// What a registry asks for is checked before a build begins.
func TestCredentials(t *testing.T) {
	b := build.Bases{}
	for name, test := range map[string]struct {
		registry recipe.Registry
		want     fault.Kind
	}{
		"none":       {recipe.Registry{}, ""},
		"a password": {recipe.Registry{Kind: "registry", User: "me", Password: "open"}, ""},
		"no name":    {recipe.Registry{Kind: "registry", Password: "open"}, fault.Invalid},
		"of Google":  {recipe.Registry{Kind: "gcp", Account: "{}"}, ""},
		"of AWS":     {recipe.Registry{Kind: "aws", User: "AKIA"}, fault.Unsupported},
		"of nobody":  {recipe.Registry{Kind: "moon"}, fault.Invalid},
	} {
		err := b.Check(recipe.Image{Ref: "debian:12", Registry: test.registry})
		if test.want == "" && err != nil || test.want != "" && !fault.Is(err, test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestTold(t *testing.T) {
	var kind string
	var got map[string]string
	tell := build.Told(func(_ context.Context, typ, _ string, fields map[string]string) { kind, got = typ, fields })
	b := record.Build{ID: "b1", Team: "a", Template: "web", Tags: []string{"v1", "v2"}, MemoryMiB: 768}
	for state, want := range map[record.State]string{
		record.Waiting: "build.requested", record.Building: "build.started", record.Ready: "build.finished", record.Failed: "build.failed",
	} {
		b.State = state
		if tell(t.Context(), b); kind != want {
			t.Errorf("%s: %s, want %s", state, kind, want)
		}
	}
	b.State, b.Reason = record.Failed, &record.Reason{Message: "exit status 3", Step: "2"}
	tell(t.Context(), b)
	want := map[string]string{"build": "b1", "team": "a", "template": "web", "tags": "v1 v2", "memory_mib": "768", "reason": "exit status 3", "step": "2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}
