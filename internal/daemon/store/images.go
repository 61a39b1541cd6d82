package store

import (
	"context"

	"bulkhead/internal/image"
	"bulkhead/internal/sandbox/template"
)

// Images is the heart's Images on the image builder.
type Images struct {
	Builder *image.Builder
	// Agent is the path of the guest agent's binary.
	Agent string
}

// Build implements the heart's contract.
func (i Images) Build(ctx context.Context, spec template.Spec, progress template.Progress) (template.Image, error) {
	img, err := i.Builder.Build(ctx, image.Recipe{
		Packages: spec.Packages, BuildTools: spec.BuildTools, DiskMiB: spec.DiskMiB, Agent: i.Agent,
	}, func(s image.Step) { progress(template.Step(s)) })
	return template.Image(img), err
}
