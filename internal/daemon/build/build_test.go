package build_test

import (
	"context"
	"testing"

	"bulkhead/internal/daemon/build"
	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/recipe"
	"bulkhead/internal/sandbox/recipe/record"
	"bulkhead/internal/sandbox/template"

	"github.com/google/go-cmp/cmp"
)

// shelf has the template base.
type shelf struct{}

func (shelf) Get(_ context.Context, name string) (template.Template, error) {
	if name != "base" {
		return template.Template{}, fault.New(fault.NotFound, "template %q not found", name)
	}
	return template.Template{Name: name}, nil
}

func (shelf) Publish(context.Context, template.Template) error { return nil }

func TestBases(t *testing.T) {
	b := build.Bases{Templates: shelf{}}
	for ref, ok := range map[string]bool{
		"e2bdev/base": true, "e2bdev/base:latest": true, "docker.io/e2bdev/base:v1": true, "e2bdev/base@sha256:00": true,
		"base": false, "debian:12": false, "evil.example/e2bdev/base": false, "e2bdev/base2": false, "library/e2bdev/base": false, "": false,
	} {
		err := b.Check(recipe.Image{Ref: ref})
		if (err == nil) != ok || err != nil && (!fault.Is(err, fault.Unsupported) || fault.HintOf(err) == "") {
			t.Errorf("%s: %v", ref, err)
		}
		var said []string
		got, err := b.FromImage(t.Context(), recipe.Image{Ref: ref}, func(line string) { said = append(said, line) })
		if (err == nil) != ok || ok && (got.Name != "base" || len(said) != 1) {
			t.Errorf("%s: %v, %v, said %q", ref, got.Name, err, said)
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
