package image_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/image"
	"bulkhead/test/leak"

	"github.com/google/go-cmp/cmp"
)

// buildReal builds the default image, with a stand-in for the agent. Runs of
// tests share a cache, so only the first one takes long.
func buildReal(t *testing.T) image.Image {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: chroot and mount namespaces")
	}
	dir := os.Getenv("BULKHEAD_TEST_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(user, "bulkhead-test")
	}
	agent := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(agent, []byte("stand-in"), 0o755); err != nil {
		t.Fatal(err)
	}
	b := image.Builder{Cache: dir}
	img, err := b.Build(t.Context(), image.Recipe{Agent: agent}, func(s image.Step) {
		if s.Done || s.Log != "" {
			t.Logf("%d/%d %s %s %s", s.Number, s.Of, s.Name, s.Elapsed, s.Log)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.Build(t.Context(), image.Recipe{Agent: agent, Suite: "bookworm"}, nil)
	if diff := cmp.Diff(img, again); err != nil || diff != "" {
		t.Errorf("built again: %v\n%s", err, diff)
	}
	return img
}

// debugfs asks for something in an ext4 image.
func debugfs(t *testing.T, disk, request string) string {
	t.Helper()
	cmd := exec.Command("debugfs", "-R", request, disk)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin", "DEBUGFS_PAGER=cat")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("debugfs %s: %v", request, err)
	}
	return string(out)
}

// attributes returns type, rights, owner and group of a path in the image:
// "regular 0440 0:0"; "" if it is not there.
func attributes(t *testing.T, disk, path string) string {
	t.Helper()
	var kind, mode, user, group string
	fields := strings.Fields(debugfs(t, disk, "stat "+path))
	for i, f := range fields[:max(0, len(fields)-1)] {
		switch f {
		case "Type:":
			kind = fields[i+1]
		case "Mode:":
			mode = fields[i+1]
		case "User:":
			user = fields[i+1]
		case "Group:":
			if group == "" { // that of the blocks comes later
				group = fields[i+1]
			}
		}
	}
	if kind == "" {
		return ""
	}
	return kind + " " + mode + " " + user + ":" + group
}

func TestBuild(t *testing.T) {
	leak.Check(t)
	img := buildReal(t)

	t.Run("disk is whole, sparse and all for the agent", func(t *testing.T) {
		if out, err := exec.Command("/usr/sbin/e2fsck", "-f", "-n", img.Disk).CombinedOutput(); err != nil {
			t.Errorf("e2fsck: %v\n%s", err, out)
		}
		info, err := os.Stat(img.Disk)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := info.Size(), int64(8<<30); got != want {
			t.Errorf("size %d, want %d", got, want)
		}
		used, err := exec.Command("du", "--block-size=1M", img.Disk).Output()
		if err != nil || len(strings.Fields(string(used))[0]) > 3 { // below 1000 MiB
			t.Errorf("disk takes %q MiB, %v", used, err)
		}
		super := strings.Join(strings.Fields(debugfs(t, img.Disk, "stats -h")), " ")
		for _, want := range []string{"Reserved block count: 0 ", "has_journal", "metadata_csum", "Filesystem state: clean", "user_xattr"} {
			if !strings.Contains(super, want) {
				t.Errorf("superblock lacks %q: %s", want, super)
			}
		}
	})
	t.Run("files have their owners and rights", func(t *testing.T) {
		release := "/usr/lib/modules/" + img.KernelRelease
		for path, want := range map[string]string{
			"/":                                "directory 0755 0:0",
			"/root":                            "directory 0700 0:0",
			"/tmp":                             "directory 01777 0:0",
			"/home/user":                       "directory 0755 1000:1000",
			"/home/user/.bashrc":               "regular 0644 1000:1000",
			"/etc/sudoers.d/user":              "regular 0440 0:0",
			"/etc/shadow":                      "regular 0640 0:42",
			"/etc/machine-id":                  "regular 0444 0:0",
			"/etc/resolv.conf":                 "regular 0644 0:0",
			"/usr/bin/sudo":                    "regular 04755 0:0",
			"/usr/bin/python":                  "symlink 0777 0:0",
			"/usr/bin/git":                     "regular 0755 0:0",
			"/sbin":                            "symlink 0777 0:0",
			"/usr/sbin/init":                   "symlink 0777 0:0",
			release + "/modules.dep":           "regular 0644 0:0",
			release + "/kernel/fs":             "directory 0755 0:0",
			release + "/modules.order":         "regular 0644 0:0",
			"/etc/systemd/system/getty.target": "symlink 0777 0:0",
			// What must not be there.
			"/etc/apt/apt.conf.d/99mmdebstrap":                                 "",
			"/etc/systemd/system/timers.target.wants/apt-daily.timer":          "",
			"/etc/systemd/system/timers.target.wants/fstrim.timer":             "",
			"/etc/systemd/system/multi-user.target.wants/e2scrub_reap.service": "",
			"/var/cache/apt/pkgcache.bin":                                      "",
		} {
			if got := attributes(t, img.Disk, path); got != want {
				t.Errorf("%s is %q, want %q", path, got, want)
			}
		}
	})
	t.Run("files say what they must", func(t *testing.T) {
		for path, want := range map[string]string{
			"/etc/passwd":           "user:x:1000:1000::/home/user:/bin/bash\n",
			"/etc/sudoers.d/user":   "NOPASSWD: ALL\n",
			"/etc/hostname":         "bulkhead\n",
			"/etc/hosts":            "127.0.0.1 localhost\n",
			"/etc/fstab":            "/dev/vda / ext4 ",
			"/etc/nsswitch.conf":    "myhostname",
			"/etc/apt/sources.list": "bookworm-security main",
			"/etc/debian_version":   "12.",
			"/etc/systemd/journald.conf.d/bulkhead.conf": "Storage=volatile\n",
		} {
			if got := debugfs(t, img.Disk, "cat "+path); !strings.Contains(got, want) {
				t.Errorf("%s holds %.300q, want %q in it", path, got, want)
			}
		}
		if got := debugfs(t, img.Disk, "cat /etc/machine-id"); got != "" {
			t.Errorf("/etc/machine-id holds %q, want nothing", got)
		}
		if got := debugfs(t, img.Disk, "ls -p /var/lib/apt/lists"); strings.Contains(got, "Packages") {
			t.Errorf("package lists are left: %s", got)
		}
	})
	t.Run("kernel is one", func(t *testing.T) {
		out, err := exec.Command("od", "--address-radix=n", "--format=x1", "--skip-bytes=514", "--read-bytes=4", img.Kernel).Output()
		// "HdrS" at 0x202: Documentation/arch/x86/boot.rst of the kernel.
		if got, want := strings.TrimSpace(string(out)), "48 64 72 53"; err != nil || got != want {
			t.Errorf("magic %q, want %q: %v", got, want, err)
		}
	})
	t.Run("initramfs holds the agent and the drivers of this kernel", func(t *testing.T) {
		entries := readArchive(t, img.Initrd)
		if got, want := len(entries), 6+1+len(loadOrder); got != want {
			t.Fatalf("%d entries, want %d", got, want)
		}
		if got, want := entries[6], "-rwxr-xr-x 0:0 init: stand-in"; got != want {
			t.Errorf("entry %q, want %q", got, want)
		}
		for _, e := range entries[7:] {
			if !strings.Contains(e, "vermagic="+img.KernelRelease+" ") {
				t.Errorf("%.60q is no module of kernel %s", e, img.KernelRelease)
			}
		}
	})
}

// The modules are loaded in an order that satisfies the kernel's own list of
// what needs what.
func TestDriversComeAfterWhatTheyNeed(t *testing.T) {
	img := buildReal(t)
	position := map[string]int{}
	for i, name := range loadOrder {
		position[name+".ko"] = i + 1
	}
	dep := debugfs(t, img.Disk, "cat /usr/lib/modules/"+img.KernelRelease+"/modules.dep")
	found := 0
	for line := range strings.Lines(dep) {
		module, needs, _ := strings.Cut(strings.TrimSpace(line), ":")
		at := position[filepath.Base(module)]
		if at == 0 {
			continue
		}
		found++
		for _, n := range strings.Fields(needs) {
			if before := position[filepath.Base(n)]; before == 0 || before > at {
				t.Errorf("%s needs %s, which is not loaded before", module, n)
			}
		}
	}
	if found != len(loadOrder) {
		t.Errorf("modules.dep has %d of the %d drivers", found, len(loadOrder))
	}
}
