// Package console_test drives the console in Debian's Chromium: on a real daemon
// with real microVMs, and on a stage that has hostile text in every field.
//
// What the browser does is written in web/e2e; here are the daemon, the world
// outside of it, and what the browser needs.
package console_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/daemon"
	"bulkhead/internal/jail"
	"bulkhead/test/harness"
	"bulkhead/test/inside"
)

// web is where the page's sources are.
const web = "../../../web"

// patience turns a browser that hangs into a failure with a message.
const patience = 8 * time.Minute

func TestMain(m *testing.M) {
	jail.Enter() // the daemon runs in this process
	os.Exit(m.Run())
}

// outside is the world: every name leads to one service.
type outside struct{ *httptest.Server }

// Resolve implements egress.Out. The address is one that is public.
func (outside) Resolve(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("93.184.215.14")}, nil
}

// Dial implements egress.Out.
func (o outside) Dial(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", o.Listener.Addr().String())
}

// serve runs a daemon with a template and a TCP port.
func serve(t *testing.T) (h *harness.Host, url string) {
	t.Helper()
	out := outside{httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(bytes.Repeat([]byte("reached the outside\n"), 4000))
	}))}
	t.Cleanup(out.Close)
	h = inside.Run(t, daemon.Daemon{Clock: time.Now, Out: out}, map[string]string{"listen": "127.0.0.1:0"}).Base()
	t.Cleanup(func() { removeAll(t, h) })
	found := regexp.MustCompile(`url=(http://127\.0\.0\.1:[0-9]+)`).FindStringSubmatch(h.LogTail(1 << 20))
	if found == nil {
		t.Fatal("the daemon does not say where it listens")
	}
	return h, found[1]
}

func removeAll(t *testing.T, h *harness.Host) {
	var all []client.Sandbox
	h.JSON(&all, "ls")
	for _, b := range all {
		if r := h.CLI("rm", "-f", b.ID); r.Code != 0 {
			t.Error(r.Stderr)
		}
	}
}

// newKey makes a key for a browser.
func newKey(t *testing.T, h *harness.Host, name, scope string) string {
	t.Helper()
	var k client.NewKey
	h.JSON(&k, "key", "create", name, "--scope", scope)
	return k.Value
}

// browse runs a story of web/e2e with variables for it.
func browse(t *testing.T, story string, env ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", filepath.Join("e2e", story))
	cmd.Dir = web
	cmd.Env = append(append(os.Environ(), "SHOTS="+os.Getenv("BULKHEAD_SCREENSHOTS"), "FAILURES="+cmp.Or(os.Getenv("BULKHEAD_FAILURES"), t.TempDir())), env...)
	out, err := cmd.StdoutPipe()
	cmd.Stderr = cmd.Stdout
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		t.Log(lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v", story, err)
	}
}

// prepare installs what the browser's stories import, as the lock file says.
func prepare(t *testing.T) {
	t.Helper()
	for _, program := range []string{"node", "npm", "chromium"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: run scripts/setup", program)
		}
	}
	if upToDate() {
		return
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund")
	cmd.Dir = web
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
}

// upToDate reports whether npm has installed what the lock file says; it keeps
// its own copy of that.
func upToDate() bool {
	var lock, have struct {
		Packages map[string]json.RawMessage `json:"packages"`
	}
	for file, v := range map[string]any{"package-lock.json": &lock, "node_modules/.package-lock.json": &have} {
		b, err := os.ReadFile(filepath.Join(web, file))
		if err != nil || json.Unmarshal(b, v) != nil {
			return false
		}
	}
	for _, name := range []string{"node_modules/preact", "node_modules/esbuild", "node_modules/playwright-core", "node_modules/axe-core", "node_modules/typescript", "node_modules/@xterm/xterm"} {
		if len(have.Packages[name]) == 0 || !bytes.Equal(compact(lock.Packages[name]), compact(have.Packages[name])) {
			return false
		}
	}
	return true
}

func compact(b []byte) []byte {
	var out bytes.Buffer
	if json.Compact(&out, b) != nil {
		return nil
	}
	return out.Bytes()
}
