package e2e_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/egress/policy"
	"bulkhead/test/harness"
)

// Python's and JavaScript's package managers work with the policy that every
// sandbox has at first, in a fresh one. What is particular to this host (where
// it has its registries, whom it trusts) is handed to the guest as the host has
// it: a house with a registry of its own does the same.
func TestPackageManagers(t *testing.T) {
	h := host(t)
	b := h.Create("packages")
	trustOurs(h, b)
	t.Run("pip", func(t *testing.T) { testPip(t, h.With(t), b) })
	t.Run("npm", func(t *testing.T) { testNpm(t, h.With(t), b) })
	t.Run("git", func(t *testing.T) { testClone(t, h.With(t), b) })
}

// theirCAs is where the guest has whom the host trusts.
const theirCAs = "/etc/ssl/of-the-host.crt"

// trustOurs has the guest's package managers trust whom the host trusts.
func trustOurs(h *harness.Host, b *harness.Box) {
	bundle := "/etc/ssl/certs/ca-certificates.crt"
	if own := os.Getenv("SSL_CERT_FILE"); own != "" {
		bundle = own
	}
	h.Must("cp", bundle, b.Name+":"+theirCAs)
}

func testPip(t *testing.T, h *harness.Host, b *harness.Box) {
	const quiet = "-q --no-cache-dir --retries 0 --disable-pip-version-check "
	onHost(t, "PIP_FIND_LINKS= python3 -m pip download --no-deps "+quiet+"-d "+t.TempDir()+" six")
	openMirror(t, h, b)
	b.Sh("apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends python3-pip")
	settings := "PIP_CERT=" + theirCAs
	for variable, key := range map[string]string{"PIP_INDEX_URL": "global.index-url", "PIP_EXTRA_INDEX_URL": "global.extra-index-url"} {
		if value := configured("python3", "-m", "pip", "config", "get", key); value != "" {
			settings += fmt.Sprintf(" %s='%s'", variable, value)
		}
	}
	install(t, h, b, settings+" python3 -m pip install "+quiet+"--root-user-action ignore --target /srv/python six")
	if got := b.Sh("PYTHONPATH=/srv/python python3 -c 'import six; print(six.PY3)'"); got != "True" {
		t.Errorf("the package says %q", got)
	}
}

func testNpm(t *testing.T, h *harness.Host, b *harness.Box) {
	node, npm := program(t, "node"), program(t, "npm")
	onHost(t, "npm install --silent --no-audit --no-fund --prefix "+t.TempDir()+" ms")
	// Debian's npm is some 400 packages; the host's own is one folder.
	h.Must("cp", node, b.Name+":/usr/local/bin/node")
	h.Must("cp", filepath.Dir(filepath.Dir(npm)), b.Name+":/opt/npm")
	settings := "NODE_EXTRA_CA_CERTS=" + theirCAs + " npm_config_cafile=" + theirCAs
	if registry := configured("npm", "config", "get", "registry"); registry != "" {
		settings += " npm_config_registry='" + registry + "'"
	}
	install(t, h, b, settings+" node /opt/npm/bin/npm-cli.js install --no-audit --no-fund --fetch-retries 0 --prefix /srv/node ms")
	if got := b.Sh(`node -p 'require("/srv/node/node_modules/ms")("1m")'`); got != "60000" {
		t.Errorf("the package says %q", got)
	}
}

// testClone clones one of this project's dependencies from the host of
// repositories that the policy names. (TestSecrets has a host of its own.)
func testClone(t *testing.T, h *harness.Host, b *harness.Box) {
	preset, _ := policy.Preset("packages")
	i := slices.IndexFunc(preset.Rules, func(r policy.Rule) bool { return strings.HasSuffix(r.Comment, "clones") })
	if i < 0 {
		t.Fatal("the policy names no host of repositories")
	}
	modules, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	repository := regexp.MustCompile(regexp.QuoteMeta(preset.Rules[i].Name) + `/[^/ ]+/[^/ ]+`).FindString(string(modules))
	onHost(t, "git ls-remote -q https://"+repository+" HEAD")
	install(t, h, b, "GIT_SSL_CAINFO="+theirCAs+" git clone -q --depth 1 https://"+repository+" /srv/clone")
	if got := b.Sh("git -C /srv/clone log --format=%H | wc -l"); got != "1" {
		t.Errorf("%s commits were cloned", got)
	}
}

// install runs a package manager in the guest. Where a registry that the policy
// allows is at an address that is not public, as a mirror of the house is, that
// address is named and it runs again.
func install(t *testing.T, h *harness.Host, b *harness.Box, command string) {
	t.Helper()
	opened := map[string]bool{}
	for {
		r := b.Exec("sh", "-c", command)
		if r.Code == 0 {
			return
		}
		fresh := false
		for _, a := range refusedAddresses(h, b) {
			if !opened[a] {
				opened[a], fresh = true, true
				h.Must("egress", "allow", b.Name, a+"/32:443")
			}
		}
		if !fresh {
			t.Fatalf("%s: exit code %d\n%s%s\n%s", command, r.Code, r.Stdout, r.Stderr, h.Must("egress", "log", b.Name))
		}
	}
}

// refusedAddresses lists what allowed names have led to and was refused.
func refusedAddresses(h *harness.Host, b *harness.Box) (all []string) {
	var e client.Egress
	h.JSON(&e, "egress", "show", b.Name)
	for _, d := range e.Denied {
		for _, word := range strings.Fields(d.Reason) {
			if a, err := netip.ParseAddr(word); err == nil {
				if _, forbidden := policy.Forbidden(a); forbidden {
					all = append(all, word)
				}
			}
		}
	}
	return all
}

// onHost skips the test if this host does not reach the registry either.
func onHost(t *testing.T, command string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "sh", "-c", command).CombinedOutput(); err != nil {
		t.Skipf("this host does not reach such a registry: %v\n%s", err, out)
	}
}

// configured asks a client of the host for a setting; "" if it has none.
func configured(args ...string) string {
	out, err := exec.Command(args[0], args[1:]...).Output()
	value := strings.TrimSpace(string(out))
	if err != nil || strings.ContainsAny(value, "'\n") {
		return ""
	}
	return value
}

// program returns where a program of the host really is.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("this host has no %s", name)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	return path
}
