package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"

	"bulkhead/internal/fault"
	"bulkhead/internal/image"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const (
	platformOS, platformArch = "linux", "amd64"
	// maxEnv bounds the variables of an image, maxEnvBytes them together.
	maxEnv, maxEnvBytes = 256, 64 << 10
	maxUser, maxDir     = 128, 1024
)

// variable is the name of a variable, as shells have them.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// fetch reads an image's manifest and configuration, and checks them.
func fetch(ctx context.Context, ref name.Reference, options []remote.Option) (*fetched, error) {
	img, err := find(ref, options)
	if err != nil {
		return nil, err
	}
	raw, err := img.RawManifest()
	if err != nil {
		return nil, err
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fault.New(fault.Invalid, "its manifest is broken: %w", err)
	}
	if err := checkManifest(m); err != nil {
		return nil, err
	}
	c, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if c.OS != platformOS || c.Architecture != platformArch {
		return nil, unfit(c.OS + "/" + c.Architecture)
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fault.New(fault.Invalid, "it has %d layers and names %d", len(m.Layers), len(c.RootFS.DiffIDs))
	}
	f := &fetched{content: c.RootFS.DiffIDs}
	if f.layers, err = img.Layers(); err != nil {
		return nil, err
	}
	if f.config, err = readConfig(c.Config); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	f.digest = hex.EncodeToString(sum[:])
	return f, ctx.Err()
}

// find returns the image that is for machines like ours.
func find(ref name.Reference, options []remote.Option) (v1.Image, error) {
	desc, err := remote.Get(ref, options...)
	if err != nil {
		return nil, err
	}
	if desc.MediaType.IsSchema1() {
		return nil, fault.New(fault.Unsupported, "it is in a format of before 2017").Hint("pull it and push it again with a newer program")
	}
	if !desc.MediaType.IsIndex() {
		return desc.Image()
	}
	index, err := desc.ImageIndex()
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, fault.New(fault.Invalid, "its index is broken: %w", err)
	}
	for _, d := range m.Manifests {
		// Other variants are for newer processors than every host has.
		p := d.Platform
		if p != nil && p.OS == platformOS && p.Architecture == platformArch && (p.Variant == "" || p.Variant == "v1") && d.MediaType.IsImage() {
			return index.Image(d.Digest)
		}
	}
	return nil, unfit("others")
}

func unfit(platform string) error {
	return fault.New(fault.Unsupported, "it is for %.40q, not for %s/%s", platform, platformOS, platformArch).
		Hint("machines are linux/amd64")
}

// checkManifest bounds what will be read.
func checkManifest(m *v1.Manifest) error {
	switch {
	case !m.Config.MediaType.IsConfig():
		return fault.New(fault.Unsupported, "it is not an image of a file system")
	case m.Config.Size < 0 || m.Config.Size > maxConfig:
		return fault.New(fault.Invalid, "its configuration has %d bytes, of %d", m.Config.Size, maxConfig)
	case len(m.Layers) == 0:
		return fault.New(fault.Unsupported, "it has no layers")
	case len(m.Layers) > maxLayers:
		return fault.New(fault.Exhausted, "it has %d layers, of %d", len(m.Layers), maxLayers)
	}
	var sum int64
	for _, l := range m.Layers {
		if !l.MediaType.IsLayer() || !l.MediaType.IsDistributable() || len(l.URLs) > 0 {
			return fault.New(fault.Unsupported, "it has a layer of type %.80q", string(l.MediaType))
		}
		if l.Size < 0 || l.Size > maxBytes-sum {
			return fault.New(fault.Exhausted, "its layers have more than %d GiB", int64(maxBytes)>>30)
		}
		sum += l.Size
	}
	return nil
}

// readConfig takes from an image's configuration what programs need. What is no
// variable is left out; what is no path or user is not guessed at.
func readConfig(c v1.Config) (image.Config, error) {
	out := image.Config{Env: map[string]string{}}
	size := 0
	for _, e := range c.Env {
		k, v, ok := strings.Cut(e, "=")
		if !ok || !variable.MatchString(k) || strings.ContainsRune(v, 0) {
			continue
		}
		size += len(e)
		out.Env[k] = v
	}
	if len(out.Env) > maxEnv || size > maxEnvBytes {
		return out, fault.New(fault.Invalid, "it has %d variables of %d bytes, of %d and %d", len(out.Env), size, maxEnv, maxEnvBytes)
	}
	if plain(c.User, maxUser) {
		out.User = c.User
	}
	if plain(c.WorkingDir, maxDir) && path.IsAbs(c.WorkingDir) {
		out.WorkingDir = path.Clean(c.WorkingDir)
	}
	return out, nil
}

func plain(s string, most int) bool {
	return len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar })
}

// explain gives an error of the registry or of the way there a kind, and words
// that are ours: what a registry says is a stranger's, and where it leads to may
// have a key in its address.
func explain(err error) error {
	var way *url.Error
	if errors.As(err, &way) {
		err = way.Err
	}
	var answer *transport.Error
	var broken net.Error
	switch {
	case fault.KindOf(err) != fault.Internal:
		return err
	case errors.As(err, &answer):
		return explainAnswer(answer)
	case way != nil || errors.As(err, &broken):
		return fault.New(fault.Unavailable, "ask the registry: %w", err).Hint("does this host reach it?")
	}
	return fault.New(fault.Unavailable, "what the registry sends is not what it should be: %w", err).Hint("try again")
}

func explainAnswer(e *transport.Error) error {
	switch e.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fault.New(fault.Denied, "the registry refuses it: there is none of that name, or it is for others").
			Hint("check the name, and user and password for the registry")
	case http.StatusNotFound:
		return fault.New(fault.NotFound, "the registry has no such image").Hint("check name and tag")
	case http.StatusTooManyRequests:
		return fault.New(fault.Unavailable, "the registry is asked too often").Hint("try later, or with a user and password")
	}
	return fault.New(fault.Unavailable, "the registry answers %d %s", e.StatusCode, http.StatusText(e.StatusCode)).Hint("try later")
}
