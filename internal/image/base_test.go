package image_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/image"

	"github.com/google/go-cmp/cmp"
)

// fill makes files of a folder: content, "-> target" for a link, "/" for a
// folder.
func fill(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, p)
		} else if content == "/" {
			err = os.MkdirAll(p, 0o755)
		} else {
			err = os.WriteFile(p, []byte(content), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// adopted makes a machine's tree of files, beside a folder that must stay as it
// is.
func adopted(t *testing.T, files map[string]string) (root string, err error) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("files of other owners need root")
	}
	base := t.TempDir()
	outside, kernel := filepath.Join(base, "outside"), filepath.Join(base, "kernel")
	fill(t, outside, map[string]string{"passwd": "root:x:0:0::/:/bin/sh\n", "shadow": "root:!:\n", "lib/modules/keep": "host"})
	fill(t, kernel, map[string]string{"lib/modules/" + image.Release + "/modules.order": ""})
	work := filepath.Join(base, "work")
	root = filepath.Join(work, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	fill(t, root, files)
	before := contents(t, outside)
	err = image.Adopt(t.Context(), work, kernel)
	if diff := cmp.Diff(before, contents(t, outside)); diff != "" {
		t.Errorf("files outside of the tree (-before +after):\n%s", diff)
	}
	if left, readErr := os.ReadDir(work); err == nil && (readErr != nil || len(left) != 1) {
		t.Errorf("beside the tree: %v, %v", left, readErr)
	}
	return root, err
}

// contents returns the content of every file below dir.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var b []byte
			b, err = os.ReadFile(p)
			all[p] = string(b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAdopt(t *testing.T) {
	small := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnode:x:1000:1000::/home/node:/bin/bash", // no line break at its end
		"etc/group":  "root:x:0:\nnode:x:1000:\nmore:x:1001:\n", "etc/shadow": "root:*:1:0:::::\n", "bin": "-> usr/bin", "usr/bin/bash": "bash",
	}
	with := func(more map[string]string) map[string]string {
		all := maps.Clone(small)
		maps.Copy(all, more)
		return all
	}
	modules := "lib/modules/" + image.Release + "/modules.dep"
	for name, tt := range map[string]struct {
		files map[string]string
		// want are files that there must be, with a piece of their content.
		want map[string]string
	}{
		"an image of a distribution": {with(map[string]string{"lib": "-> usr/lib", "usr/lib": "/", "etc/resolv.conf": "-> ../run/resolv.conf"}), map[string]string{
			"etc/passwd": "node:/bin/bash\nuser:x:1002:1002::/home/user:/bin/bash\n", "etc/group": "more:x:1001:\nuser:x:1002:\n",
			"etc/shadow": "user:!:", "usr/" + modules: "", "etc/resolv.conf": "nameserver ", "etc/fstab": "/dev/vda", "etc/sudoers.d/user": "NOPASSWD",
		}},
		"an image of nothing": {nil, map[string]string{
			"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n", "etc/group": "user:x:1000:\n", modules: "",
		}},
		"one that has a user":           {map[string]string{"etc/passwd": "user:x:5:5::/:/bin/sh\n"}, map[string]string{"etc/passwd": "user:x:5:5::/:/bin/sh\n"}},
		"a folder of modules elsewhere": {with(map[string]string{"lib": "-> /../../outside/lib"}), map[string]string{"outside/" + modules: ""}},
		"modules of its own":            {with(map[string]string{modules: "old"}), map[string]string{modules: ""}},
		"a PATH that is kept": {map[string]string{"etc/profile.d/bulkhead-path.sh": "-> ../../../outside/passwd"}, map[string]string{
			"etc/profile.d/bulkhead-path.sh": `export PATH='/it'\''s/bin:/usr/bin'`,
		}},
		"a home elsewhere":            {with(map[string]string{"home": "-> ../../data"}), map[string]string{"etc/passwd": "user:x:1002:"}},
		"links in place of our files": {with(map[string]string{"etc/hosts": "-> ../../outside/passwd", "etc/systemd/system/getty.target": "x"}), map[string]string{"etc/hosts": "localhost"}},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := adopted(t, tt.files)
			if err != nil {
				t.Fatal(err)
			}
			for file, piece := range tt.want {
				b, err := os.ReadFile(filepath.Join(root, file))
				if err != nil || !strings.Contains(string(b), piece) || file == modules && string(b) == "old" {
					t.Errorf("%s is %q, %v, want %q in it", file, b, err, piece)
				}
			}
		})
	}
	t.Run("its home is its own, and its password file closed", func(t *testing.T) {
		root, err := adopted(t, small)
		if err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(filepath.Join(root, "home/user"))
		if err != nil || fi.Sys().(*syscall.Stat_t).Uid != 1002 {
			t.Errorf("home: %v, %v", fi, err)
		}
		if fi, err := os.Stat(filepath.Join(root, "etc/shadow")); err != nil || fi.Mode() != 0o640 {
			t.Errorf("shadow: %v, %v", fi, err)
		}
	})
}

func TestAdoptRefuses(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"an /etc that is a link":    {"etc": "-> ../../outside"},
		"an /etc that is a file":    {"etc": "x"},
		"accounts outside":          {"etc/passwd": "-> ../../../outside/passwd"},
		"an absolute link to them":  {"etc/passwd": "-> /etc/passwd"},
		"passwords outside":         {"etc/passwd": "root:x:0:0::/:/bin/sh\n", "etc/shadow": "-> ../../../outside/shadow"},
		"accounts that are endless": {"etc/passwd": strings.Repeat("x", 2<<20)},
		"accounts that are none":    {"etc/passwd": "/"},
		"a /lib that is a file":     {"lib": "x"},
		"a /lib in a circle":        {"lib": "-> lib"},
		"folders of systemd abroad": {"etc/systemd": "-> ../../../outside"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := adopted(t, files); !fault.Is(err, fault.Invalid) {
				t.Errorf("error %v of kind %s", err, fault.KindOf(err))
			}
		})
	}
}
