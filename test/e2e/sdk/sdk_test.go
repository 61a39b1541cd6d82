// Package sdk_test has the official SDKs of E2B, unmodified, drive a real host
// with real microVMs.
package sdk_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"bulkhead/client"
	"bulkhead/test/harness"
)

// host is a host that SDKs can reach.
type host struct {
	*harness.Host
	plain, secure string // its URLs
	key           string
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
	var key client.NewKey
	h.JSON(&key, "key", "create", "sdk", "--scope", "admin")
	h.key = key.Value
	return h
}

// run runs a program that drives the host, and shows what it says.
func (h *host) run(t *testing.T, env []string, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "E2B_API_URL="+h.plain, "E2B_SANDBOX_URL="+h.plain, "E2B_API_KEY="+h.key,
		"NODE_EXTRA_CA_CERTS="+filepath.Join(h.Dir, "tls", "ca.pem"), "BULKHEAD_TLS="+h.secure)
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("%s %v: %v", program, args, err)
	}
}

func TestSDK(t *testing.T) {
	h := newHost(t)
	for _, generation := range []string{"e2b", "e2b-first"} {
		t.Run(generation, func(t *testing.T) {
			files, err := filepath.Glob("scenarios/*.test.mjs")
			if err != nil {
				t.Fatal(err)
			}
			if only := os.Getenv("SCENARIO"); only != "" {
				files = []string{"scenarios/" + only + ".test.mjs"}
			}
			args := []string{"--import", "./scenarios/resolve.mjs", "--test", "--test-concurrency=1", "--test-timeout=120000"}
			h.run(t, []string{"SDK=" + generation}, "node", append(args, files...)...)
		})
	}
}
