package build

import (
	"cmp"
	"context"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/daemon/wire"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/recipe"
	"bulkhead/internal/sandbox/recipe/record"
	"bulkhead/internal/sandbox/template"
)

// Templates is what bases are found among and made by.
type Templates interface {
	Get(ctx context.Context, name string) (template.Template, error)
	Prepare(ctx context.Context, spec template.Spec, progress template.Progress) (template.Base, error)
}

// Bases finds what builds start from: of images, the one that E2B's SDKs start
// from unless they are told another is our own template. Others come from their
// registries.
type Bases struct {
	Templates Templates
	// Size and DiskMiB are of machines that nothing is said about.
	Size    live.Size
	DiskMiB int
}

// own is our template of E2B's own image.
const own = "base"

// isOwn reports whether an image is that.
func isOwn(ref string) bool {
	name := strings.TrimPrefix(strings.TrimPrefix(ref, "docker.io/"), "index.docker.io/")
	name, _, _ = strings.Cut(name, "@")
	name, _, _ = strings.Cut(name, ":")
	return name == "e2bdev/base"
}

// Check implements works.Bases.
func (b Bases) Check(img recipe.Image) error {
	_, err := remote(img)
	return err
}

// remote is the wire's Remote of an image.
func remote(img recipe.Image) (template.Remote, error) {
	r := img.Registry
	if r.Kind == "" {
		return wire.Remote(img.Ref, nil)
	}
	return wire.Remote(img.Ref, &client.Registry{Type: r.Kind, Username: r.User, Password: r.Password, ServiceAccountJSON: r.Account})
}

// FromImage implements works.Bases.
func (b Bases) FromImage(ctx context.Context, img recipe.Image, size live.Size, say func(string)) (template.Base, error) {
	if isOwn(img.Ref) {
		say(record.Plain(img.Ref) + " is this host's template " + own)
		t, err := b.Templates.Get(ctx, own)
		return template.Base{Template: t, Key: string(t.Snapshot)}, err
	}
	from, err := remote(img)
	if err != nil {
		return template.Base{}, err
	}
	size.CPUs, size.MemoryMiB = cmp.Or(size.CPUs, b.Size.CPUs), cmp.Or(size.MemoryMiB, b.Size.MemoryMiB)
	return b.Templates.Prepare(ctx, template.Spec{Name: "image", Size: size, DiskMiB: b.DiskMiB, From: from}, func(s template.Step) {
		switch {
		case s.Log != "":
			say(record.Plain(s.Log))
		case !s.Done:
			say(s.Name)
		}
	})
}
