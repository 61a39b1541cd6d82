// Package ocitest makes container images and registries for tests.
package ocitest

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Serve starts a registry without TLS on loopback, whose requests pass through
// wrap first if it is not nil. It ends with the test.
func Serve(tb testing.TB, wrap func(http.Handler) http.Handler) (addr string) {
	tb.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		handler = wrap(handler)
	}
	srv := httptest.NewServer(handler)
	tb.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// Layer is a layer of files, each written "name=content".
func Layer(tb testing.TB, files ...string) v1.Layer {
	tb.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		name, content, _ := strings.Cut(f, "=")
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil })
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// Image is an image of layers, the lowest first.
func Image(tb testing.TB, config v1.ConfigFile, layers ...v1.Layer) v1.Image {
	tb.Helper()
	img, err := mutate.ConfigFile(empty.Image, &config)
	if err == nil {
		img, err = mutate.AppendLayers(img, layers...)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return img
}

// Push puts an image or an index into a registry.
func Push(tb testing.TB, reference string, what remote.Taggable) {
	tb.Helper()
	ref, err := name.ParseReference(reference)
	if err != nil {
		tb.Fatal(err)
	}
	switch w := what.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, w)
	case v1.Image:
		err = remote.Write(ref, w)
	}
	if err != nil {
		tb.Fatal(err)
	}
}
