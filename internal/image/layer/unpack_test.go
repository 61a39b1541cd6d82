package layer_test

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/image/layer"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func TestUnpack(t *testing.T) {
	content := tarball(t, file("a", strings.Repeat("content", 1000)))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(content); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	zs, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, blob := range map[string][]byte{"as it is": content, "gzip": zipped.Bytes(), "zstd": zs.EncodeAll(content, nil)} {
		t.Run(name, func(t *testing.T) {
			r, err := layer.Unpack(bytes.NewReader(blob))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, error %v, want %d bytes", len(got), err, len(content))
			}
		})
	}
}

// TestBomb: a small blob that unpacks to much ends at the limit, and is not held
// in memory.
func TestBomb(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("files of other owners need root")
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	zeros := make([]byte, 1<<20)
	if _, err := z.Write(tarball(t, file("a", ""))[:512]); err != nil {
		t.Fatal(err)
	}
	for range 64 {
		if _, err := z.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := layer.Unpack(&zipped)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tree, err := layer.Open(t.TempDir(), wide)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if err := tree.Apply(t.Context(), r); !fault.Is(err, fault.Exhausted) {
		t.Errorf("error %v of kind %s", err, fault.KindOf(err))
	}
}
