// Package sdk_test has the official SDKs of E2B, unmodified, drive a real host
// with real microVMs.
package sdk_test

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"bulkhead/client"
	"bulkhead/test/contract"
	"bulkhead/test/harness"
)

// host is a host that SDKs can reach.
type host struct {
	*harness.Host
	// plain is the URL of who records what passes, secure that of the host.
	plain, secure string
	key           string
	recorder      *contract.Recorder
}

// domain is the host's name; all that is below it leads here, see resolve.mjs.
const domain = "bulkhead.test"

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{Host: harness.New(t, "--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--domain", domain).Base()}
	for _, m := range regexp.MustCompile(`url=(https?)(://\S+)`).FindAllStringSubmatch(h.LogTail(1<<20), -1) {
		if m[1] == "http" {
			h.plain = m[1] + m[2]
		} else {
			h.secure = m[1] + m[2]
		}
	}
	h.record(t)
	var key client.NewKey
	h.JSON(&key, "key", "create", "sdk", "--scope", "admin")
	h.key = key.Value
	return h
}

// record puts a recorder before the host.
func (h *host) record(t *testing.T) {
	t.Helper()
	doc, err := contract.Load()
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(h.plain)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Transport{DisableCompression: true}
	h.recorder = &contract.Recorder{Document: doc, Server: server, Elsewhere: func(r *http.Request) bool {
		return r.Header.Get("E2b-Sandbox-Id") != "" || r.URL.Path == "/files"
	}}
	s := httptest.NewServer(&httputil.ReverseProxy{
		Transport: h.recorder, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) },
	})
	h.plain = s.URL
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		server.CloseIdleConnections()
	})
}

// run runs a program of the tools that drives the host.
func (h *host) run(t *testing.T, tl tools, env []string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(tl.bin, args[0]), args[1:]...)
	cmd.Env = append(tl.env(), "E2B_API_URL="+h.plain, "E2B_SANDBOX_URL="+h.plain, "E2B_API_KEY="+h.key,
		"NODE_EXTRA_CA_CERTS="+filepath.Join(h.Dir, "tls", "ca.pem"))
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v\n%s", args, err, out)
		return
	}
	t.Logf("%s", out)
}

// The official SDKs of E2B, as they are, drive a host: the JavaScript one of
// both generations of the API, and the Python one. What is answered to them, and
// to who asks for the rest, is as the document of the API says.
func TestSDK(t *testing.T) {
	h := newHost(t)
	tl := install(t, h.Cache)
	dir := tl.scenarios(t)
	only := os.Getenv("SCENARIO") // for who works on one
	for _, generation := range []string{"e2b", "e2b-first"} {
		t.Run(generation, func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join(dir, "*"+only+"*.test.mjs"))
			if err != nil {
				t.Fatal(err)
			}
			args := []string{"node", "--import", filepath.Join(dir, "resolve.mjs"), "--test", "--test-reporter=spec", "--test-concurrency=1", "--test-force-exit", "--test-timeout=120000"}
			h.run(t, tl, []string{"SDK=" + generation}, append(args, files...)...)
		})
	}
	t.Run("python", func(t *testing.T) { h.run(t, tl, nil, "python", filepath.Join(dir, "lifecycle.py")) })
	t.Run("python builds", func(t *testing.T) { h.run(t, tl, nil, "python", filepath.Join(dir, "builds.py")) })
	t.Run("quick starts", func(t *testing.T) { h.quickStarts(t, tl) })
	if only != "" {
		return
	}
	t.Run("the rest of the document", func(t *testing.T) {
		s := &sweeper{t: t, host: h}
		t.Cleanup(s.http.CloseIdleConnections)
		s.sweep()
		for _, why := range h.recorder.Breaches() {
			t.Error(why)
		}
		for _, op := range h.recorder.Missing() {
			t.Errorf("nobody asks for %s", op)
		}
	})
}
