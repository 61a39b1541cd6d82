// Package image makes what a template's machine boots from: a root disk, a
// kernel and an initramfs, as plain files in a cache folder.
//
// The three are built and cached apart, each under a digest of all that goes
// into it, so that a new guest agent costs a new initramfs and nothing else:
//
//	kernel   Debian's cloud kernel package, unpacked      by package and version
//	disk     Debian on ext4, with the kernel's modules    by recipe and kernel
//	         or a Base, such as a container image          by its key and kernel
//	initrd   the guest agent as /init, and the drivers    by agent and kernel
//
// A part appears whole or not at all: it is made in a folder of its own and
// renamed. Programs run in namespaces of their own, so whatever ends a build,
// none of its processes and mounts outlive it.
//
// image knows files and packages, not machines: it must not import vmm, pool
// or sandbox. A Builder is safe for concurrent use, also by several processes
// on one cache; builds wait for each other.
package image

import (
	"context"
	"path/filepath"
	"time"
)

// Image is what a machine boots from. The files belong to the cache: they
// are to be copied, never written to.
type Image struct {
	// Disk is a raw ext4 file system, sparse; Kernel a bzImage; Initrd a cpio
	// archive.
	Disk, Kernel, Initrd string
	// KernelRelease is what uname -r says in the guest.
	KernelRelease string
	// Key is equal for images made of the same things.
	Key string
	// Config is what the maker of a container image wants for its programs.
	Config Config
}

// Config is how programs of a container image are to be started. An image of
// Debian's packages has none. All of it is a stranger's.
type Config struct {
	// Env is the environment, User a name or number, maybe with ":" and a group,
	// WorkingDir an absolute path.
	Env              map[string]string
	User, WorkingDir string
}

// Step is a step of a build that begins or ends, or a line that it printed.
type Step struct {
	Name string
	// Number counts from 1; Of is how many steps there are in all.
	Number, Of int
	// Done says that the step has ended, after Elapsed.
	Done    bool
	Elapsed time.Duration
	// Log is one line of output, at most maxLine bytes of printable text;
	// with it, nothing begins or ends.
	Log string
}

// Progress is told how a build goes on. Calls do not overlap. A step that
// does not end has failed.
type Progress func(Step)

// Builder builds images.
type Builder struct {
	// Cache is a folder that outlives builds; it is made if it does not exist.
	Cache string
	// Mirror is a package mirror for the root disk, as a URI or as a line of
	// sources.list. "" leaves the choice to mmdebstrap: Debian's own, with
	// security updates.
	Mirror string
}

// Build makes the image of a recipe, or returns at once if the cache has it.
// progress may be nil. A recipe that cannot be built is a fault.Invalid, a
// missing program or package a fault.Unavailable with the command that brings
// it. A cancelled or failed build leaves nothing behind but parts that were
// complete.
func (b *Builder) Build(ctx context.Context, recipe Recipe, progress Progress) (Image, error) {
	return b.build(ctx, recipe, progress, func(r Recipe, k kernel, tree string) part {
		return r.diskPart(k, b.Mirror, tree)
	})
}

// build makes the image of a recipe whose disk is that of disk, which is told
// where the kernel's package is unpacked.
func (b *Builder) build(ctx context.Context, recipe Recipe, progress Progress, disk func(Recipe, kernel, string) part) (Image, error) {
	recipe, err := recipe.normal()
	if err != nil {
		return Image{}, err
	}
	agent, err := digestFile(recipe.Agent)
	if err != nil {
		return Image{}, err
	}
	kernel, err := findKernel(ctx)
	if err != nil {
		return Image{}, err
	}
	c := &cache{dir: filepath.Join(b.Cache, "images")}
	kernelPart := kernel.part()
	tree := c.path(kernelPart)
	diskPart := disk(recipe, kernel, tree)
	initrdPart := initrdPart(kernel, agent, recipe.Agent, tree)

	if err := c.ensure(ctx, progress, kernelPart, diskPart, initrdPart); err != nil {
		return Image{}, err
	}
	return Image{
		Disk:          filepath.Join(c.path(diskPart), diskName),
		Kernel:        filepath.Join(tree, "boot", "vmlinuz-"+kernel.release()),
		Initrd:        filepath.Join(c.path(initrdPart), initrdName),
		KernelRelease: kernel.release(),
		Key:           digest(kernelPart.key, diskPart.key, initrdPart.key),
	}, nil
}

// Tool is a program of the host that Build runs.
type Tool struct {
	// Name is the program's, Package the Debian package that brings it.
	Name, Package string
}

// Tools lists the programs that Build runs.
func Tools() []Tool {
	return []Tool{
		{"apt-cache", "apt"},
		{"apt-get", "apt"},
		{"dpkg-deb", "dpkg"},
		{"mmdebstrap", "mmdebstrap"},
		{"cp", "coreutils"},
		{"mke2fs", "e2fsprogs"},
		{"depmod", "kmod"},
	}
}
