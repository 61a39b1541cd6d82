package oci_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/image"
	"bulkhead/internal/image/oci"
	"bulkhead/internal/image/oci/ocitest"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// builder lays bases into folders of a test, and remembers the last.
type builder struct {
	t    *testing.T
	base image.Base
	root string
	logs []string
}

func (b *builder) BuildOn(ctx context.Context, base image.Base, _ image.Recipe, _ image.Progress) (image.Image, error) {
	b.base, b.root = base, b.t.TempDir()
	scratch := b.t.TempDir()
	err := base.Lay(ctx, b.root, scratch, func(line string) { b.logs = append(b.logs, line) })
	if left, listErr := os.ReadDir(scratch); len(left) > 0 || listErr != nil {
		b.t.Errorf("left in scratch: %v, %v", left, listErr)
	}
	return image.Image{Key: base.Key}, err
}

// host dials, and resolves names as a test says.
type host struct {
	names map[string]string
}

func (h host) Resolve(_ context.Context, name string) ([]netip.Addr, error) {
	if a, ok := h.names[name]; ok {
		return []netip.Addr{netip.MustParseAddr(a)}, nil
	}
	return nil, errors.New("no such host")
}

func (h host) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to.String())
}

// loopback takes all addresses of loopback to be closed, as package egress does.
func loopback(a netip.Addr) error {
	if a.IsLoopback() {
		return fmt.Errorf("%s is loopback", a)
	}
	return nil
}

func puller(t *testing.T, registries ...string) (*oci.Puller, *builder) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("files of other owners need root")
	}
	list, err := oci.Registries(registries)
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{t: t}
	return &oci.Puller{Images: b, Registries: list, Out: host{}, Closed: loopback}, b
}

// imageOf is an image of layers for a platform.
func imageOf(t *testing.T, platform v1.Platform, layers ...v1.Layer) v1.Image {
	t.Helper()
	return ocitest.Image(t, v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture,
		Config: v1.Config{Env: []string{"PATH=/opt/bin:/bin", "nonsense", "EMPTY=", "a b=c"}, User: "app:app", WorkingDir: "/srv/app/"},
	}, layers...)
}

var amd64 = v1.Platform{OS: "linux", Architecture: "amd64"}

func TestPull(t *testing.T) {
	addr := ocitest.Serve(t, nil)
	p, b := puller(t, "public", "http://"+addr)
	ours := imageOf(t, amd64, ocitest.Layer(t, "etc/passwd=root", "x=1"), ocitest.Layer(t, "x=2", "a/.wh.none="))
	ocitest.Push(t, addr+"/team/one:v1", ours)
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: imageOf(t, v1.Platform{OS: "linux", Architecture: "arm64"}, ocitest.Layer(t, "x=arm")), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: imageOf(t, amd64, ocitest.Layer(t, "x=v3")), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"}}},
		mutate.IndexAddendum{Add: ours, Descriptor: v1.Descriptor{Platform: &amd64}},
	)
	ocitest.Push(t, addr+"/team/many", index)
	digest, err := ours.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, reference := range []string{addr + "/team/one:v1", addr + "/team/many", addr + "/team/one@" + digest.String()} {
		img, err := p.Pull(t.Context(), oci.Remote{Reference: reference}, image.Recipe{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if repository, key, _ := strings.Cut(img.Key, "@"); key != digest.Hex || !strings.HasPrefix(reference, repository) {
			t.Errorf("%s: key %s, want one with %s", reference, img.Key, digest.Hex)
		}
		want := image.Config{Env: map[string]string{"PATH": "/opt/bin:/bin", "EMPTY": ""}, User: "app:app", WorkingDir: "/srv/app"}
		if diff := cmp.Diff(want, img.Config); diff != "" {
			t.Errorf("%s: configuration (-want +got):\n%s", reference, diff)
		}
		if x, err := os.ReadFile(filepath.Join(b.root, "x")); err != nil || string(x) != "2" {
			t.Errorf("%s: x is %q, %v", reference, x, err)
		}
	}
	if got := b.logs[0]; !strings.HasPrefix(got, "layer 1 of 2, ") {
		t.Errorf("it says %q", got)
	}
}

func TestPullRefuses(t *testing.T) {
	addr := ocitest.Serve(t, nil)
	at := func(n string) string { return addr + "/" + n }
	ocitest.Push(t, at("arm"), imageOf(t, v1.Platform{OS: "linux", Architecture: "arm64"}, ocitest.Layer(t, "x=1")))
	ocitest.Push(t, at("windows"), imageOf(t, v1.Platform{OS: "windows", Architecture: "amd64"}, ocitest.Layer(t, "x=1")))
	ocitest.Push(t, at("nothing"), imageOf(t, amd64))
	ocitest.Push(t, at("out"), imageOf(t, amd64, ocitest.Layer(t, "../../x=1")))
	ocitest.Push(t, at("index"), mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: imageOf(t, amd64, ocitest.Layer(t, "x=1")), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}}))
	many := make([]v1.Layer, 129)
	for i := range many {
		many[i] = ocitest.Layer(t, fmt.Sprintf("x=%d", i))
	}
	ocitest.Push(t, at("many"), imageOf(t, amd64, many...))
	ocitest.Push(t, at("artifact"), mutate.ConfigMediaType(imageOf(t, amd64, ocitest.Layer(t, "x=1")), "application/vnd.cncf.helm.config.v1+json"))
	foreign, err := mutate.Append(imageOf(t, amd64), mutate.Addendum{Layer: ocitest.Layer(t, "x=1"), URLs: []string{"http://169.254.169.254/"}, MediaType: types.DockerForeignLayer})
	if err != nil {
		t.Fatal(err)
	}
	ocitest.Push(t, at("foreign"), foreign)
	ocitest.Push(t, at("big"), imageOf(t, amd64, ocitest.Layer(t, "x="+strings.Repeat("y", 3<<20))))
	lying, err := mutate.ConfigFile(imageOf(t, amd64, ocitest.Layer(t, "x=1")), &v1.ConfigFile{OS: "linux", Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	ocitest.Push(t, at("lying"), lying)

	for name, tt := range map[string]struct {
		reference string
		kind      fault.Kind
		want      string
	}{
		"what is no reference":       {"Not A Reference", fault.Invalid, "not a reference"},
		"a long one":                 {strings.Repeat("a", 2000), fault.Invalid, "not a reference"},
		"a registry not listed":      {"docker.io/library/node:22", fault.Denied, "images may not come from index.docker.io"},
		"another port of one":        {"127.0.0.1:1/x", fault.Denied, "images may not come from 127.0.0.1:1"},
		"what is not there":          {at("none"), fault.NotFound, "has no such image"},
		"an image for others":        {at("arm"), fault.Unsupported, `it is for "linux/arm64"`},
		"one of another system":      {at("windows"), fault.Unsupported, `it is for "windows/amd64"`},
		"an index for others":        {at("index"), fault.Unsupported, "it is for"},
		"one without layers":         {at("nothing"), fault.Unsupported, "has no layers"},
		"too many layers":            {at("many"), fault.Exhausted, "it has 129 layers, of 128"},
		"what is no image":           {at("artifact"), fault.Unsupported, "not an image of a file system"},
		"layers from elsewhere":      {at("foreign"), fault.Unsupported, "it has a layer of type"},
		"names that lead out":        {at("out"), fault.Invalid, "leads out of the image"},
		"what is too large":          {at("big"), fault.Exhausted, "image has more than 1 MiB"},
		"another number of contents": {at("lying"), fault.Invalid, "it has 1 layers and names 0"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := puller(t, "http://"+addr)
			_, err := p.Pull(t.Context(), oci.Remote{Reference: tt.reference}, image.Recipe{DiskMiB: 1}, nil)
			if !fault.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v of kind %s, want %q of kind %s", err, fault.KindOf(err), tt.want, tt.kind)
			}
		})
	}
}

// TestPullOfLiars: what a registry sends is held to the digests in it.
func TestPullOfLiars(t *testing.T) {
	good := ocitest.Layer(t, "x=1")
	bad, err := ocitest.Layer(t, "x=2").Compressed()
	if err != nil {
		t.Fatal(err)
	}
	other, err := io.ReadAll(bad)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := good.Digest()
	if err != nil {
		t.Fatal(err)
	}
	isBlob := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, digest.String())
	}
	isManifest := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/")
	}
	for name, tt := range map[string]struct {
		when func(*http.Request) bool
		do   http.HandlerFunc
		kind fault.Kind
		want string
	}{
		"another blob": {isBlob, func(w http.ResponseWriter, _ *http.Request) { w.Write(other) }, fault.Unavailable, "not what it should be"},
		"no end of a blob": {isBlob, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, fault.Unavailable, "not what it should be"},
		"no end of a manifest": {isManifest, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, fault.Exhausted, "answers with more than 4 MiB"},
		"a manifest that is none": {isManifest, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.DockerManifestSchema2))
			io.WriteString(w, "{")
		}, fault.Invalid, "its manifest is broken"},
		"a manifest of before": {isManifest, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.DockerManifestSchema1))
			io.WriteString(w, "{}")
		}, fault.Unsupported, "format of before 2017"},
		"a huge configuration": {isManifest, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.DockerManifestSchema2))
			fmt.Fprintf(w, `{"schemaVersion":2,"config":{"mediaType":%q,"size":1099511627776,"digest":%q},"layers":[]}`, types.DockerConfigJSON, digest)
		}, fault.Invalid, "its configuration has 1099511627776 bytes"},
		"a huge layer": {isManifest, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.DockerManifestSchema2))
			fmt.Fprintf(w, `{"schemaVersion":2,"config":{"mediaType":%q,"size":2,"digest":%q},"layers":[{"mediaType":%q,"size":9223372036854775807,"digest":%q},{"mediaType":%q,"size":9223372036854775807,"digest":%q}]}`,
				types.DockerConfigJSON, digest, types.DockerLayer, digest, types.DockerLayer, digest)
		}, fault.Exhausted, "its layers have more than 64 GiB"},
		"that there are too many": {isManifest, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }, fault.Unavailable, "asked too often"},
		"that it is for others":   {isManifest, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, fault.Denied, "the registry refuses it"},
	} {
		t.Run(name, func(t *testing.T) {
			armed := false
			addr := ocitest.Serve(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if armed && tt.when(r) {
						tt.do(w, r)
						return
					}
					next.ServeHTTP(w, r)
				})
			})
			ocitest.Push(t, addr+"/x", imageOf(t, amd64, good))
			armed = true
			p, _ := puller(t, "http://"+addr)
			_, err := p.Pull(t.Context(), oci.Remote{Reference: addr + "/x"}, image.Recipe{}, nil)
			if !fault.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v of kind %s, want %q of kind %s", err, fault.KindOf(err), tt.want, tt.kind)
			}
		})
	}
}

// TestContentHasItsDigest: a blob may be what its manifest says and not what
// the image's configuration says.
func TestContentHasItsDigest(t *testing.T) {
	addr := ocitest.Serve(t, nil)
	img := imageOf(t, amd64, ocitest.Layer(t, "x=1"))
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.RootFS.DiffIDs[0].Hex = strings.Repeat("0", 64)
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	ocitest.Push(t, addr+"/x", img)
	p, _ := puller(t, "http://"+addr)
	if _, err := p.Pull(t.Context(), oci.Remote{Reference: addr + "/x"}, image.Recipe{}, nil); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "another digest") {
		t.Errorf("error %v", err)
	}
}

// TestCredentials: they are sent to the registry, and nothing else has them.
func TestCredentials(t *testing.T) {
	addr := ocitest.Serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "me" || password != "open-sesame" {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	p, _ := puller(t, "http://"+addr)
	ask := func(password string) error {
		_, err := p.Pull(t.Context(), oci.Remote{Reference: addr + "/none", Username: "me", Password: password}, image.Recipe{}, nil)
		return err
	}
	if got := fmt.Sprintf("%v %+v", oci.Remote{Password: "open-sesame"}, struct{ R oci.Remote }{oci.Remote{Password: "open-sesame"}}); strings.Contains(got, "open-sesame") {
		t.Errorf("it prints as %s", got)
	}
	if err := ask("open-sesame"); !fault.Is(err, fault.NotFound) {
		t.Errorf("with the password: %v", err)
	}
	if err := ask("secret-guess"); !fault.Is(err, fault.Denied) || strings.Contains(err.Error(), "secret-guess") {
		t.Errorf("with another: %v", err)
	}
}

// TestWaysOut: a registry is no way into a private network, and none without
// TLS but for one that the operator named so.
func TestWaysOut(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the private service was asked") }))
	t.Cleanup(inner.Close)
	leading := ocitest.Serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/v2/":
			case strings.HasPrefix(r.URL.Path, "/v2/plain/"):
				http.Redirect(w, r, inner.URL, http.StatusFound)
			case strings.HasPrefix(r.URL.Path, "/v2/number/"):
				http.Redirect(w, r, strings.Replace(inner.URL, "http:", "https:", 1)+"/?token=not-for-logs", http.StatusFound)
			case strings.HasPrefix(r.URL.Path, "/v2/name/"):
				_, port, _ := net.SplitHostPort(inner.Listener.Addr().String())
				http.Redirect(w, r, "https://rebind.example:"+port+"/?token=not-for-logs", http.StatusFound)
			case strings.HasPrefix(r.URL.Path, "/v2/loop/"):
				http.Redirect(w, r, r.URL.Path, http.StatusFound)
			}
		})
	})
	for name, tt := range map[string]struct {
		reference string
		kind      fault.Kind
		want      string
	}{
		"without TLS":               {leading + "/plain/x", fault.Denied, "without TLS"},
		"to a private address":      {leading + "/number/x", fault.Denied, `the way to "127.0.0.1" is closed`},
		"to a name that has one":    {leading + "/name/x", fault.Denied, `the way to "rebind.example" is closed`},
		"to itself for ever":        {leading + "/loop/x", fault.Unavailable, "leads on more than 10 times"},
		"a public one that is":      {"ghcr.io/x/y", fault.Denied, `the way to "ghcr.io" is closed`},
		"a public one that is no":   {"quay.io/x/y", fault.Unavailable, `find "quay.io"`},
		"one without TLS by a name": {"tls.example/x", fault.Unavailable, "connect to"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := puller(t, "public", "http://"+leading, "tls.example")
			p.Out = host{names: map[string]string{"rebind.example": "127.0.0.1", "ghcr.io": "127.0.0.1", "tls.example": "127.0.0.1"}}
			_, err := p.Pull(t.Context(), oci.Remote{Reference: tt.reference}, image.Recipe{}, nil)
			if !fault.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "not-for-logs") {
				t.Errorf("error %v of kind %s, want %q of kind %s", err, fault.KindOf(err), tt.want, tt.kind)
			}
		})
	}
}

// TestPlainMustBeSaid: the library takes loopback and private addresses to have
// no TLS; here only the operator says so.
func TestPlainMustBeSaid(t *testing.T) {
	plain := ocitest.Serve(t, nil)
	ocitest.Push(t, plain+"/x", imageOf(t, amd64, ocitest.Layer(t, "x=1")))
	p, _ := puller(t, plain)
	if _, err := p.Pull(t.Context(), oci.Remote{Reference: plain + "/x"}, image.Recipe{}, nil); !fault.Is(err, fault.Unavailable) {
		t.Errorf("error %v of kind %s", err, fault.KindOf(err))
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	addr := ocitest.Serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
	})
	p, _ := puller(t, "http://"+addr)
	if _, err := p.Pull(ctx, oci.Remote{Reference: addr + "/x"}, image.Recipe{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestRegistries(t *testing.T) {
	got, err := oci.Registries([]string{"http://10.0.0.1:5000", "docker.io"})
	want := []oci.Registry{{Host: "10.0.0.1:5000", Plain: true, Private: true}, {Host: "index.docker.io", Private: true}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if all, err := oci.Registries([]string{"public"}); err != nil || len(all) < 5 || all[0].Private {
		t.Errorf("public is %v, %v", all, err)
	}
}
