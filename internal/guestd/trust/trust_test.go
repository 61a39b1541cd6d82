package trust_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/guestd/trust"

	"golang.org/x/sys/unix"
)

const (
	ownFile = "usr/local/share/ca-certificates/bulkhead.crt"
	bundle  = "etc/ssl/certs/ca-certificates.crt"
	theirs  = "-----BEGIN CERTIFICATE-----\nothers\n-----END CERTIFICATE-----\n"
	one     = "-----BEGIN CERTIFICATE-----\nfirst\n-----END CERTIFICATE-----\n"
	two     = "-----BEGIN CERTIFICATE-----\nsecond\n-----END CERTIFICATE-----\n"
)

// newStore makes a machine as Debian's package leaves it.
func newStore(t *testing.T) trust.Store {
	t.Helper()
	s := trust.Store{Root: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(s.Root, filepath.Dir(bundle)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Root, bundle), []byte(theirs), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

func install(t *testing.T, s trust.Store, root string, want bool) {
	t.Helper()
	if changed, err := s.Install([]byte(root), "0a1b2c3d.0"); err != nil || changed != want {
		t.Errorf("install: changed %v, %v; want %v", changed, err, want)
	}
}

func read(t *testing.T, s trust.Store, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestInstall(t *testing.T) {
	s := newStore(t)
	install(t, s, "", false)
	if env := s.Env(); len(env) > 0 {
		t.Errorf("without an authority there is %v", env)
	}
	for _, root := range []string{one, two, one} {
		install(t, s, root, true)
		install(t, s, root, false)
		if got := read(t, s, bundle); got != theirs+root {
			t.Errorf("the bundle is %q", got)
		}
		if got := read(t, s, ownFile); got != root {
			t.Errorf("the certificate is %q", got)
		}
	}
	if to, err := os.Readlink(filepath.Join(s.Root, "etc/ssl/certs/0a1b2c3d.0")); to != "/"+ownFile {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if env := s.Env(); env["SSL_CERT_FILE"] != "/"+bundle || env["NODE_EXTRA_CA_CERTS"] != "/"+ownFile {
		t.Errorf("the variables are %v", env)
	}
	install(t, s, "", true)
	if got := read(t, s, bundle); got != theirs {
		t.Errorf("taken back, the bundle is %q", got)
	}
	for _, path := range []string{ownFile, "etc/ssl/certs/0a1b2c3d.0"} {
		if _, err := os.Lstat(filepath.Join(s.Root, path)); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	if env := s.Env(); len(env) > 0 {
		t.Errorf("taken back, there is %v", env)
	}
}

// A package that is updated writes the bundle anew, from the certificates that
// it knows of.
func TestBundleWrittenAnew(t *testing.T) {
	s := newStore(t)
	install(t, s, one, true)
	if err := os.WriteFile(filepath.Join(s.Root, bundle), []byte(theirs), 0o644); err != nil {
		t.Fatal(err)
	}
	install(t, s, one, true)
	if got := read(t, s, bundle); got != theirs+one {
		t.Errorf("the bundle is %q", got)
	}
}

// What the guest has made of its files costs it the authority, no more.
func TestDamaged(t *testing.T) {
	for what, damage := range map[string]func(string) error{
		"a FIFO":   func(path string) error { return unix.Mkfifo(path, 0o644) },
		"a folder": func(path string) error { return os.Mkdir(path, 0o755) },
		"huge":     func(path string) error { return os.WriteFile(path, make([]byte, 9<<20), 0o644) },
	} {
		t.Run(what, func(t *testing.T) {
			s := newStore(t)
			path := filepath.Join(s.Root, bundle)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Install([]byte(one), "0a1b2c3d.0"); err == nil {
				t.Error("nothing is said of it")
			}
			if got := read(t, s, ownFile); got != one {
				t.Errorf("what can be installed is not: %q", got)
			}
		})
	}
	s := trust.Store{Root: t.TempDir()} // an image without any
	install(t, s, one, true)
	if env := s.Env(); env["SSL_CERT_FILE"] != "" || env["NODE_EXTRA_CA_CERTS"] == "" {
		t.Errorf("without a bundle the variables are %v", env)
	}
	if _, err := s.Install([]byte(two), "../../up"); err == nil || !strings.Contains(err.Error(), "link") {
		t.Errorf("a path for a link: %v", err)
	}
}
