package parcel_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/parcel"

	"github.com/klauspost/compress/zstd"
)

// folder makes files, one of them with holes.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "state"), []byte("device state"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "memory"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 4096, 3 << 20, 40 << 20} {
		if _, err := f.WriteAt(bytes.Repeat([]byte("x"), 5000), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func packed(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	about := parcel.About{Made: time.Unix(1, 0).UTC(), By: "test", Sandbox: json.RawMessage(`{"name":"otter"}`)}
	if err := parcel.Pack(t.Context(), &b, about, dir); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func always() error { return nil }

// unpack lays a parcel down for which there is room.
func unpack(t *testing.T, r io.Reader, dir string) (parcel.About, error) {
	t.Helper()
	p, err := parcel.Open(r)
	if err != nil {
		return parcel.About{}, err
	}
	defer p.Close()
	return p.About, p.Unpack(t.Context(), dir, always)
}

func TestRoundTrip(t *testing.T) {
	from, to := folder(t), t.TempDir()
	b := packed(t, from)
	if len(b) > 64<<10 {
		t.Errorf("64 MiB of holes take %d bytes", len(b))
	}
	about, err := unpack(t, bytes.NewReader(b), to)
	if err != nil {
		t.Fatal(err)
	}
	if about.By != "test" || string(about.Sandbox) != `{"name":"otter"}` || about.Files["memory"] != 64<<20 {
		t.Errorf("it says %+v", about)
	}
	for _, name := range []string{"state", "memory", "empty"} {
		want, _ := os.ReadFile(filepath.Join(from, name))
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs, %v", name, err)
		}
	}
}

// Whoever has no Bulkhead can still open and check one.
func TestOrdinaryToolsReadIt(t *testing.T) {
	dir := t.TempDir()
	plain, err := zstd.NewReader(bytes.NewReader(packed(t, folder(t))))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	c := exec.CommandContext(t.Context(), "sh", "-c", "tar -x && sha256sum -c --quiet SHA256SUMS && ls")
	c.Dir, c.Stdin = dir, plain
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "memory@0") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestNoByteMayChange(t *testing.T) {
	whole := packed(t, folder(t))
	for i := 0; i < len(whole); i += 7 {
		broken := bytes.Clone(whole)
		broken[i] ^= 0x40
		if _, err := unpack(t, bytes.NewReader(broken), t.TempDir()); err == nil {
			// Only what decompresses to the same is the same.
			z, _ := zstd.NewReader(nil)
			a, err1 := z.DecodeAll(whole, nil)
			b, err2 := z.DecodeAll(broken, nil)
			z.Close()
			if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
				t.Errorf("a change of byte %d is not found", i)
			}
		}
	}
	for _, n := range []int{0, 1, len(whole) / 2, len(whole) - 20} {
		if _, err := unpack(t, bytes.NewReader(whole[:n]), t.TempDir()); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%d bytes of it: %v", n, err)
		}
	}
}

// made is a parcel of these entries, in this order.
func made(t *testing.T, about string, entries ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, h := range append([]tar.Header{{Name: "sandbox.json", Size: int64(len(about))}}, entries...) {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		content := strings.Repeat("x", int(h.Size))
		if h.Name == "sandbox.json" {
			content = about
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	z.Close()
	return &b
}

func TestHostileParcels(t *testing.T) {
	const one = `{"format":1,"files":{"memory":10}}`
	for name, tt := range map[string]struct {
		about   string
		entries []tar.Header
		kind    fault.Kind
	}{
		"another format":    {`{"format":2}`, nil, fault.Unsupported},
		"no JSON":           {`{`, nil, fault.Corrupt},
		"a path":            {`{"format":1,"files":{"../x":1}}`, nil, fault.Corrupt},
		"a negative size":   {`{"format":1,"files":{"memory":-1}}`, nil, fault.Corrupt},
		"too large":         {`{"format":1,"files":{"memory":1099511627777}}`, nil, fault.Corrupt},
		"no end":            {one, []tar.Header{{Name: "memory@0", Size: 5}}, fault.Corrupt},
		"beyond the end":    {one, []tar.Header{{Name: "memory@6", Size: 5}}, fault.Corrupt},
		"far beyond":        {one, []tar.Header{{Name: "memory@9999999999999", Size: 5}}, fault.Corrupt},
		"an unknown file":   {one, []tar.Header{{Name: "disk@0", Size: 5}}, fault.Corrupt},
		"a path as a piece": {one, []tar.Header{{Name: "../memory@0", Size: 5}}, fault.Corrupt},
		"a link":            {one, []tar.Header{{Name: "memory@0", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}}, fault.Corrupt},
		"false digests":     {one, []tar.Header{{Name: "SHA256SUMS", Size: 79}}, fault.Corrupt},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := unpack(t, made(t, tt.about, tt.entries...), t.TempDir()); !fault.Is(err, tt.kind) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestNoRoom(t *testing.T) {
	full := errors.New("full")
	p, err := parcel.Open(bytes.NewReader(packed(t, folder(t))))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	asked := 0
	err = p.Unpack(t.Context(), t.TempDir(), func() error {
		if asked++; asked > 2 {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) {
		t.Error(err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		unpack(t, bytes.NewReader(b), t.TempDir())
	})
}
