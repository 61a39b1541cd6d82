// Package oci makes machines' images of container images: it fetches one from a
// registry and lays its layers into a root tree, on which package image builds.
//
//	reference ──registry──► manifest ──config, blobs──► tree ──image.BuildOn──► disk
//	              listed?     amd64?     digest, bounds
//
// Three parties are strangers: who asks, the registry, and who made the image.
// Images come from listed registries alone, and connections that they lead to
// from there go to public addresses (outlet.go). Manifests are bounded before
// they are read, blobs have the digest of their manifest before anything looks
// into them, and layers are unpacked by package layer.
//
// What is built is kept by the digest of the image, but the registry is asked
// for the manifest each time, with the credentials of who asks: what one may
// fetch is not another's for being in the cache. Credentials are in memory
// alone.
//
// oci must not know machines. A Puller is safe for concurrent use.
package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/image"
	"bulkhead/internal/image/layer"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"
)

const (
	// maxReference is twice what repository, tag and digest may have (OCI
	// distribution specification, "Pulling manifests").
	maxReference = 1024
	// maxManifest is what registries should take at most (the same, "Pushing
	// Manifests"); maxConfig bounds that of an image.
	maxManifest, maxConfig = 4 << 20, 1 << 20
	// maxLayers is how many an overlay file system of containers can have.
	maxLayers = 128
	// maxEntries and maxBytes bound what is unpacked, in files and in bytes; the
	// disk that was asked for and the free space of the host do so too.
	maxEntries = 1 << 20
	maxBytes   = 64 << 30
	// patience bounds one pull, from the first request to the last file.
	patience = 30 * time.Minute
)

// Remote is an image in a registry, and who asks for it.
type Remote struct {
	// Reference is "node:22", "ghcr.io/owner/name:tag" or one with a digest.
	Reference string
	// Username and Password are for the registry; "" to ask as nobody.
	Username, Password string
}

// String leaves out what nobody may read.
func (r Remote) String() string { return r.Reference }

// Images builds images on root trees; package image has one.
type Images interface {
	BuildOn(ctx context.Context, base image.Base, recipe image.Recipe, progress image.Progress) (image.Image, error)
}

// Puller makes images of container images.
type Puller struct {
	Images Images
	// Registries are those that images may come from.
	Registries []Registry
	// Out is the way to them.
	Out Out
	// Closed says why an address is none that everybody may be led to; nil if it
	// is one.
	Closed func(netip.Addr) error
}

// Pull makes the image of a remote one, or returns what the cache has of it;
// the registry is asked in either case. Of the recipe, only the size of the disk
// and the agent count. progress may be nil.
//
// fault.Invalid is a reference that is none and an image that is broken,
// fault.Denied a registry that is not listed or that refuses, fault.NotFound an
// image that it does not have, fault.Unsupported one that is not for machines
// like this, fault.Exhausted one that is too large, and fault.Unavailable a
// registry that does not answer. Nothing stays on error.
func (p *Puller) Pull(ctx context.Context, r Remote, recipe image.Recipe, progress image.Progress) (image.Image, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fault.New(fault.Timeout, "image %.200q took longer than %v", r.Reference, patience))
	defer cancel()
	img, err := p.pull(ctx, r, recipe, progress)
	if err != nil && ctx.Err() != nil {
		return image.Image{}, context.Cause(ctx)
	}
	if err != nil {
		return image.Image{}, fmt.Errorf("image %.200q: %w", r.Reference, err)
	}
	return img, nil
}

func (p *Puller) pull(ctx context.Context, r Remote, recipe image.Recipe, progress image.Progress) (image.Image, error) {
	ref, err := p.parse(r.Reference)
	if err != nil {
		return image.Image{}, err
	}
	out := p.outlet()
	defer out.close()
	fetched, err := fetch(ctx, ref, []remote.Option{
		remote.WithContext(ctx), remote.WithTransport(out), remote.WithUserAgent("bulkhead"), remote.WithAuth(r.authenticator()),
	})
	if err != nil {
		return image.Image{}, explain(err)
	}
	limits := layer.Limits{Bytes: maxBytes, Entries: maxEntries}
	if recipe.DiskMiB > 0 {
		limits.Bytes = min(limits.Bytes, int64(recipe.DiskMiB)<<20)
	}
	img, err := p.Images.BuildOn(ctx, image.Base{
		Name: ref.String(),
		// With the repository: who knows the manifest of another's image could give
		// it out from his own.
		Key: ref.Context().Name() + "@" + fetched.digest, Path: fetched.config.Env["PATH"],
		Lay: func(ctx context.Context, root, scratch string, log func(string)) error {
			spare, err := room(scratch)
			if err != nil {
				return err
			}
			limits := limits
			scarce := spare < limits.Bytes
			limits.Bytes = min(limits.Bytes, spare)
			err = fetched.lay(ctx, root, scratch, limits, log)
			if scarce && fault.Is(err, fault.Exhausted) {
				return fault.New(fault.Exhausted, "%w", err).Hint("make room where cache_dir is: it needs three times what the image has unpacked")
			}
			return err
		},
	}, recipe, progress)
	img.Config = fetched.config
	return img, err
}

// parse reads a reference and finds its registry in the list.
func (p *Puller) parse(reference string) (name.Reference, error) {
	none := fault.New(fault.Invalid, "not a reference").Hint("write it like node:22 or ghcr.io/owner/name:tag")
	if len(reference) > maxReference {
		return nil, none
	}
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, none
	}
	host := ref.Context().RegistryStr()
	switch r, listed := p.registry(host); {
	case !listed:
		return nil, fault.New(fault.Denied, "images may not come from %s", host).
			Hint("the operator lists registries as registries: in the configuration")
	case r.Plain:
		return name.ParseReference(reference, name.Insecure)
	}
	return ref, nil
}

func (r Remote) authenticator() authn.Authenticator {
	if r.Username == "" && r.Password == "" {
		return authn.Anonymous
	}
	return &authn.Basic{Username: r.Username, Password: r.Password}
}

// fetched is an image of which the manifest and the configuration are here.
type fetched struct {
	digest string
	layers []v1.Layer
	// content are the digests of the layers' archives.
	content []v1.Hash
	config  image.Config
}

// lay fetches the layers and lays them into root, the lowest first.
func (f *fetched) lay(ctx context.Context, root, scratch string, limits layer.Limits, log func(string)) error {
	tree, err := layer.Open(root, limits)
	if err != nil {
		return err
	}
	defer tree.Close()
	for i, l := range f.layers {
		size, err := l.Size()
		if err != nil {
			return err
		}
		if size > limits.Bytes {
			return fault.New(fault.Exhausted, "layer %d has %d MiB, of %d", i+1, size>>20, limits.Bytes>>20).Hint("ask for a larger disk")
		}
		log(fmt.Sprintf("layer %d of %d, %.1f MiB", i+1, len(f.layers), float64(size)/(1<<20)))
		if err := f.layOne(ctx, tree, scratch, i); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return nil
}

// room returns what the host can spare for a tree, in bytes: a third of what is
// free, as a blob, or the disk that is made of the tree, is there beside it.
func room(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("find free space: %w", err)
	}
	return int64(st.Bavail) * st.Bsize / 3, nil
}

// layOne fetches a blob into a file of its own, and looks into it when it has
// the digest that it must have.
func (f *fetched) layOne(ctx context.Context, tree *layer.Tree, scratch string, i int) error {
	blob, err := os.CreateTemp(scratch, "blob")
	if err != nil {
		return err
	}
	defer blob.Close()
	if err := os.Remove(blob.Name()); err != nil { // it goes with its last descriptor
		return err
	}
	from, err := f.layers[i].Compressed()
	if err != nil {
		return explain(err)
	}
	_, err = io.Copy(blob, whole{from}) // bounded by the size in the manifest, and checked at its end
	if err := errors.Join(err, from.Close()); err != nil {
		return err
	}
	if _, err := blob.Seek(0, io.SeekStart); err != nil {
		return err
	}
	archive, err := layer.Unpack(blob)
	if err != nil {
		return err
	}
	defer archive.Close()
	sum, err := v1.Hasher(f.content[i].Algorithm)
	if err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	if err := tree.Apply(ctx, io.TeeReader(archive, sum)); err != nil {
		return err
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != f.content[i].Hex {
		return fault.New(fault.Invalid, "unpacked, it has another digest than the image says")
	}
	return nil
}

// whole gives errors of a blob, such as another digest, words of ours.
type whole struct{ io.Reader }

// Read fails as explain says.
func (w whole) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = explain(err)
	}
	return n, err
}
