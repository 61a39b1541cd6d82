package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/image/oci/ocitest"
	"bulkhead/test/harness"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Container images are machines: with their own systemd if they have it, with
// our init if they have not.
func TestTemplateFromImage(t *testing.T) {
	addr, debian, amd64 := ocitest.Serve(t, nil), debianLayer(t), v1.ConfigFile{OS: "linux", Architecture: "amd64"}
	ocitest.Push(t, addr+"/debian/full:12", ocitest.Image(t, amd64, debian, ocitest.Layer(t, "opt/marker=full")))
	// What most images are like: no init, and nobody who could be asked.
	baker := amd64
	baker.Config.Env = []string{"FLOUR=rye", "PATH=/opt/oven/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	ocitest.Push(t, addr+"/debian/bare:12", ocitest.Image(t, baker, debian, ocitest.Layer(t,
		"usr/lib/systemd/.wh.systemd=", "usr/sbin/.wh.init=", "etc/.wh.hostname=", "opt/marker=bare")))

	h := harness.New(t, "--cache-dir", t.TempDir(), "--registries", "public,http://"+addr)
	build := func(name, ref string) harness.Result {
		return h.CLI("template", "build", name, "--from-image", ref, "--disk", "2048", "--memory", "256")
	}
	t.Run("one without an init gets ours", func(t *testing.T) {
		b := fromImage(t, h, build("bare", addr+"/debian/bare:12"))
		if got, want := b.Sh("cat /opt/marker; echo; tr '\\0' ' ' < /proc/1/cmdline"), "bare\nbulkhead-init "; got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
		if got, want := b.Sh("su user -c 'id -un; cd; pwd'; test -s /lib/modules/$(uname -r)/modules.dep && cut -d' ' -f1 /etc/fstab"), "user\n/home/user\n/dev/vda"; got != want {
			t.Errorf("its user, home and disk are %q, want %q", got, want)
		}
	})
	t.Run("one with systemd has that", func(t *testing.T) {
		b := fromImage(t, h, build("full", addr+"/debian/full:12"))
		if got, want := b.Sh("cat /opt/marker; echo; cat /proc/1/comm; systemctl is-active dbus.socket"), "full\nsystemd\nactive"; got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
	})
	t.Run("the second time it comes from the cache", func(t *testing.T) {
		if r := build("again", addr+"/debian/bare:12"); r.Code != 0 || strings.Contains(r.Stderr, "layer 1 of") {
			t.Errorf("code %d, %s", r.Code, r.Stderr)
		}
	})
	t.Run("builds of SDKs start from it", func(t *testing.T) { buildOnImage(t, h, addr+"/debian/bare:12") })
	for name, ref := range map[string]string{"images may not come from": "registry.example/x", "the registry has no such image": addr + "/debian/full:13"} {
		t.Run(name, func(t *testing.T) {
			if r := build("none", ref); r.Code == 0 || !strings.Contains(r.Stderr, name) || !strings.Contains(r.Stderr, "hint: ") {
				t.Errorf("code %d, %s", r.Code, r.Stderr)
			}
		})
	}
}

// fromImage makes a sandbox from the template that a build has made.
func fromImage(t *testing.T, h *harness.Host, built harness.Result) *harness.Box {
	t.Helper()
	template := strings.TrimSpace(built.Stdout)
	if built.Code != 0 || template == "" {
		t.Fatalf("build: code %d\n%s", built.Code, built.Stderr)
	}
	box := "box-of-" + template
	if r := h.CLI("create", template, "--name", box); r.Code != 0 {
		t.Fatalf("create: code %d\n%s", r.Code, r.Stderr)
	}
	t.Cleanup(func() { h.With(t).CLI("rm", "-f", box) })
	return h.With(t).Box(box)
}

// buildOnImage builds on an image whose variables hold in steps and in sandboxes;
// nothing of the image itself stays as a template.
func buildOnImage(t *testing.T, h *harness.Host, ref string) {
	o := newOven(t, h.With(t))
	recipe := func(last string) map[string]any {
		run := func(c string) map[string]any { return map[string]any{"type": "RUN", "args": []string{c, "root"}} }
		return map[string]any{"fromImage": ref, "steps": []map[string]any{run("echo $FLOUR > /srv/kept"), run(last)}}
	}
	first := o.await(o.startFrom("bread", recipe("true")), over)
	if first.Status != "ready" {
		t.Fatalf("build is %+v", first)
	}
	again := o.await(o.startFrom("bread", recipe("cat /srv/kept")), over)
	if again.Status != "ready" || !again.says("CACHED [1/2] RUN echo $FLOUR > /srv/kept") || !again.says("rye") {
		t.Errorf("build is %+v", again)
	}
	h.Must("create", "bread", "--name", "toast")
	t.Cleanup(func() { h.With(t).CLI("rm", "-f", "toast") })
	if got := h.With(t).Box("toast").Sh("cat /opt/marker; echo; cat /srv/kept; echo $FLOUR; bash -lc 'echo ${PATH%%:*}'"); got != "bare\nrye\nrye\n/opt/oven/bin" {
		t.Errorf("sandbox says %q", got)
	}
	if ls := h.Must("template", "ls"); strings.Contains(ls, "image") {
		t.Errorf("templates are\n%s", ls)
	}
}

// debianLayer is a small system with systemd, as one layer. It stays in the
// cache of tests, as the template base does.
func debianLayer(t *testing.T) v1.Layer {
	t.Helper()
	path := filepath.Join(shared.Cache, "debian-bookworm-systemd.tar")
	if _, err := os.Stat(path); err != nil {
		draft := filepath.Join(t.TempDir(), "draft.tar")
		cmd := exec.CommandContext(t.Context(), "mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar",
			"--include=systemd,systemd-sysv,dbus", "bookworm", draft)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("mmdebstrap: %v\n%s", err, out)
		}
		if out, err := exec.CommandContext(t.Context(), "mv", draft, path).CombinedOutput(); err != nil {
			t.Fatalf("keep the layer: %v\n%s", err, out)
		}
	}
	l, err := tarball.LayerFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
