package store

import (
	"context"

	"bulkhead/internal/image"
	"bulkhead/internal/image/oci"
	"bulkhead/internal/sandbox/template"
)

// Images is the heart's Images on the image builder and on registries.
type Images struct {
	Builder *image.Builder
	Puller  *oci.Puller
	// Agent is the path of the guest agent's binary.
	Agent string
}

// Build implements the heart's contract.
func (i Images) Build(ctx context.Context, spec template.Spec, progress template.Progress) (template.Image, error) {
	recipe := image.Recipe{
		Packages: spec.Packages, BuildTools: spec.BuildTools, DiskMiB: spec.DiskMiB, Agent: i.Agent,
	}
	tell := func(s image.Step) { progress(template.Step(s)) }
	var img image.Image
	var err error
	if spec.From.Reference == "" {
		img, err = i.Builder.Build(ctx, recipe, tell)
	} else {
		img, err = i.Puller.Pull(ctx, oci.Remote(spec.From), recipe, tell)
	}
	return template.Image{
		Disk: img.Disk, Kernel: img.Kernel, Initrd: img.Initrd, KernelRelease: img.KernelRelease, Key: img.Key,
		// Its user and its folder are those of one program. Who works in a sandbox is
		// its user, as on every other.
		Env: img.Config.Env,
	}, err
}
