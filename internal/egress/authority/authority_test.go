package authority_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/egress/authority"
)

func clock() time.Time { return time.Unix(1.9e9, 0) }

func covering(t *testing.T, names ...string) *authority.Authority {
	t.Helper()
	a, err := authority.New(clock)
	if err != nil {
		t.Fatal(err)
	}
	cover(t, a, names...)
	return a
}

func cover(t *testing.T, a *authority.Authority, names ...string) {
	t.Helper()
	if _, err := a.Cover(names); err != nil {
		t.Fatal(err)
	}
}

// trusts says whether who trusts root accepts a leaf of a for name.
func trusts(t *testing.T, root []byte, a *authority.Authority, name string) error {
	t.Helper()
	leaf, err := a.Leaf(name)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		t.Fatal("the root is no certificate")
	}
	_, err = leaf.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool, CurrentTime: clock()})
	return err
}

func TestConstrained(t *testing.T) {
	a := covering(t, "api.example", "two.example")
	narrow := a.Root()
	if err := trusts(t, narrow, a, "api.example"); err != nil {
		t.Error(err)
	}
	if _, err := a.Leaf("other.example"); err == nil {
		t.Error("there is a leaf of a name that it is not for")
	}
	// With a wider root the key signs for another name. Who trusts the narrow
	// one must not accept that, but goes on with its own names.
	cover(t, a, "api.example", "other.example")
	if err := trusts(t, narrow, a, "api.example"); err != nil {
		t.Errorf("a program that has read the older root: %v", err)
	}
	if err := trusts(t, narrow, a, "other.example"); err == nil {
		t.Error("the constraint to names does not hold")
	}
	if err := trusts(t, a.Root(), a, "other.example"); err != nil {
		t.Error(err)
	}
	if err := trusts(t, covering(t, "api.example").Root(), a, "api.example"); err == nil {
		t.Error("another sandbox's root is good for this one")
	}
}

func TestKept(t *testing.T) {
	a := covering(t, "b.example", "a.example")
	b, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := authority.Load(b, clock)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := again.Cover([]string{"a.example", "b.example", "a.example"})
	if err != nil || fresh || !bytes.Equal(a.Root(), again.Root()) {
		t.Errorf("the same names make another root: %v, %v", fresh, err)
	}
	if err := trusts(t, a.Root(), again, "a.example"); err != nil {
		t.Error(err)
	}
}

// OpenSSL judges the same, and finds the root by Link.
func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl")
	}
	a, err := authority.New(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	cover(t, a, "api.example")
	dir := t.TempDir()
	link, err := a.Link()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := a.Leaf("api.example")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, link), a.Root())
	at := filepath.Join(t.TempDir(), "leaf.pem")
	write(t, at, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}))
	for name, want := range map[string]bool{"api.example": true, "other.example": false} {
		out, err := exec.CommandContext(t.Context(), "openssl", "verify", "-no-CAfile", "-no-CAstore", "-CApath", dir,
			"-verify_hostname", name, at).CombinedOutput()
		if (err == nil) != want {
			t.Errorf("%s: %s, %v", name, strings.TrimSpace(string(out)), err)
		}
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
