package digest_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/internal/pool/digest"
)

func TestOf(t *testing.T) {
	var c digest.Cache
	path := filepath.Join(t.TempDir(), "file")
	for i := range 3 {
		content := fmt.Appendf(nil, "content %03d", i)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := c.Of(path)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%x", sha256.Sum256(content)); got != want {
			t.Errorf("digest of %q is %s, want %s", content, got, want)
		}
	}
	if _, err := c.Of(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}
