package keyring_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/server/ssh/keyring"

	"golang.org/x/crypto/ssh"
)

func open(t *testing.T, path string) *keyring.Ring {
	t.Helper()
	r, err := keyring.Open(path, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// newLine returns a public key as a .pub file has it.
func newLine(t *testing.T) string {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return lineOf(t, pub)
}

func lineOf(t *testing.T, pub any) string {
	t.Helper()
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(key))
}

// Keys last, belong to the teams that have added them, and go one by one.
func TestRing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	r := open(t, path)
	line := newLine(t)
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	first, err := r.Add("crew", "", strings.TrimSpace(line)+" anna@laptop\n")
	if err != nil || first.Name != "anna@laptop" || first.Fingerprint() != ssh.FingerprintSHA256(pub) {
		t.Fatalf("got %+v, %v", first, err)
	}
	if _, err := r.Add("crew", "again", line); !fault.Is(err, fault.Exists) {
		t.Errorf("the same key again: %v", err)
	}
	if _, err := r.Add("crew", "anna@laptop", newLine(t)); !fault.Is(err, fault.Exists) {
		t.Errorf("the same name again: %v", err)
	}
	if _, err := r.Add("others", "anna", line); err != nil {
		t.Errorf("the same key of another team: %v", err)
	}
	r = open(t, path)
	if got := strings.Join(r.Teams(pub), " "); got != "crew others" {
		t.Errorf("it is of teams %q", got)
	}
	if _, err := r.Remove("others", "anna@laptop"); !fault.Is(err, fault.NotFound) {
		t.Errorf("remove another team's: %v", err)
	}
	if _, err := r.Remove("crew", first.Fingerprint()); err != nil {
		t.Error(err)
	}
	if got := strings.Join(open(t, path).Teams(pub), " "); got != "others" {
		t.Errorf("it is of teams %q", got)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", fi.Mode(), err)
	}
}

// What is no key, or none that is good enough, is refused.
func TestRefused(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := newLine(t)
	r := open(t, filepath.Join(t.TempDir(), "keys.json"))
	for name, c := range map[string]struct {
		name, line string
		ok         bool
	}{
		"ECDSA":           {"a", lineOf(t, &curve.PublicKey), true},
		"short RSA":       {"b", lineOf(t, &small.PublicKey), false},
		"options":         {"d", `command="true" ` + good, false},
		"two keys":        {"e", good + newLine(t), false},
		"a private key":   {"f", "-----BEGIN OPENSSH PRIVATE KEY-----", false},
		"nothing":         {"g", "", false},
		"a long line":     {"h", strings.TrimSpace(good) + " " + strings.Repeat("x", 9000), false},
		"no name":         {"", good, false},
		"a steering name": {"x\x1b[2J", good, false},
	} {
		if _, err := r.Add("crew", c.name, c.line); (err == nil) != c.ok || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The host's key is made once; a file that is none is not replaced.
func TestHostKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host")
	if _, err := keyring.Fingerprint(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before there is one: %v", err)
	}
	first, err := keyring.HostKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := keyring.HostKey(path)
	if err != nil {
		t.Fatal(err)
	}
	_, want := keyring.Describe(first.PublicKey())
	if _, got := keyring.Describe(again.PublicKey()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, err := keyring.Fingerprint(path); got != want || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	if err := os.WriteFile(path, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.HostKey(path); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a broken one: %v", err)
	}
}
