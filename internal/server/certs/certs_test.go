package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/server/certs"
)

func own(t *testing.T, dir, domain string, clock func() time.Time) certs.Getter {
	t.Helper()
	get, err := certs.Own(dir, domain, clock)
	if err != nil {
		t.Fatal(err)
	}
	return get
}

func get(t *testing.T, g certs.Getter) *tls.Certificate {
	t.Helper()
	c, err := g(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func roots(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, certs.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		t.Fatal("no certificate in the file")
	}
	return pool
}

func TestOwnCertifiesTheHostsNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	leaf := get(t, own(t, dir, "bulkhead.example", time.Now)).Leaf
	pool := roots(t, dir)
	for name, ok := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "::1": true, "3000-abc.localhost": true,
		"bulkhead.example": true, "api.bulkhead.example": true, "49983-i0.bulkhead.example": true,
		"a.b.bulkhead.example": false, "example": false, "evilbulkhead.example": false, "127.0.0.2": false,
	} {
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool})
		if (err == nil) != ok {
			t.Errorf("%s: %v, want trust: %v", name, err, ok)
		}
	}
	if fi, err := os.Stat(filepath.Join(dir, "ca.key")); err != nil || fi.Mode() != 0o600 {
		t.Errorf("key of the authority: %v, %v; want it private", fi.Mode(), err)
	}
}

func TestOwnAuthorityIsKept(t *testing.T) {
	dir := t.TempDir()
	first := get(t, own(t, dir, "a.example", time.Now))
	trusted := roots(t, dir)
	second := get(t, own(t, dir, "a.example", time.Now))
	if _, err := second.Leaf.Verify(x509.VerifyOptions{DNSName: "a.example", Roots: trusted}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if first.Leaf.SerialNumber.Cmp(second.Leaf.SerialNumber) == 0 {
		t.Error("the same certificate twice, although none is kept")
	}
	// It must not certify another name: who trusts it has not agreed to that.
	other := get(t, own(t, dir, "b.example", time.Now))
	if _, err := other.Leaf.Verify(x509.VerifyOptions{DNSName: "b.example", Roots: trusted}); err == nil {
		t.Error("the old authority certifies a new name")
	}
}

func TestAuthorityCannotCertifyOthers(t *testing.T) {
	dir := t.TempDir()
	get(t, own(t, dir, "a.example", time.Now))
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, certs.CAFile), filepath.Join(dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	leaf := certs.Forge(t, pair, "bank.example")
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "bank.example", Roots: roots(t, dir)}); err == nil {
		t.Error("a thief of the key can be any host")
	}
}

func TestCertificateIsRenewedInTime(t *testing.T) {
	now := time.Now()
	g := own(t, t.TempDir(), "", func() time.Time { return now })
	first := get(t, g)
	now = now.Add(59 * 24 * time.Hour)
	if get(t, g) != first {
		t.Error("renewed too early")
	}
	now = now.Add(2 * 24 * time.Hour)
	if second := get(t, g); second == first || !second.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Error("not renewed")
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	get(t, own(t, dir, "a.example", time.Now))
	cert, key := filepath.Join(dir, certs.CAFile), filepath.Join(dir, "ca.key")
	g, err := certs.Files(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	first := get(t, g)
	get(t, own(t, dir, "b.example", time.Now)) // another pair in the same files
	later := time.Now().Add(time.Minute)
	for _, f := range []string{cert, key} {
		if err := os.Chtimes(f, later, later); err != nil {
			t.Fatal(err)
		}
	}
	second := get(t, g)
	if second == first {
		t.Error("the old certificate is shown")
	}
	if err := os.WriteFile(cert, []byte("half of o"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := get(t, g); got != second {
		t.Error("what is half written took the place of what is good")
	}
	if _, err := certs.Files(cert, key); !fault.Is(err, fault.Invalid) {
		t.Errorf("Files = %v, want %s", err, fault.Invalid)
	}
}

func TestDamagedAuthorityIsSaid(t *testing.T) {
	dir := t.TempDir()
	get(t, own(t, dir, "", time.Now))
	if err := os.WriteFile(filepath.Join(dir, certs.CAFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := certs.Own(dir, "", time.Now); !fault.Is(err, fault.Corrupt) || fault.HintOf(err) == "" {
		t.Errorf("Own = %v, want %s with a way out", err, fault.Corrupt)
	}
}
