package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"bulkhead/internal/addressing"
	"bulkhead/internal/fault"
)

// rootName is the tree that becomes the disk, within the unfinished part.
const rootName = "root"

// diskPart is the part that holds a root disk. kernelTree is where the
// unpacked kernel package is, or will be when the part is made.
func (r Recipe) diskPart(k kernel, mirror, kernelTree string) part {
	return part{
		kind: "disk",
		key:  digest(r.Suite, mirror, r.packages(), r.DiskMiB, k, systemFiles, removed),
		steps: []step{
			{"install Debian " + r.Suite, func(ctx context.Context, w workspace) error { return r.install(ctx, w, mirror) }},
			{"configure the system", func(ctx context.Context, w workspace) error { return configure(ctx, w, k, kernelTree) }},
			{"make the disk image", func(ctx context.Context, w workspace) error { return makeDisk(ctx, w, r.DiskMiB) }},
		},
	}
}

// install makes the tree of a small Debian system: essential packages, apt,
// and what the recipe names with its dependencies, without recommendations.
// mmdebstrap removes package lists and downloads again.
func (r Recipe) install(ctx context.Context, w workspace, mirror string) error {
	args := []string{
		"--mode=root", "--variant=minbase", "--format=directory", "--components=main",
		// The cache is closed to apt's own user, as it has set-uid programs.
		`--aptopt=APT::Sandbox::User "root"`,
		"--include=" + strings.Join(r.packages(), ","),
		"--", r.Suite, filepath.Join(w.dir, rootName),
	}
	if mirror != "" {
		args = append(args, mirror)
	}
	err := w.run(ctx, "mmdebstrap", args...)
	if err != nil {
		if m := noPackage.FindStringSubmatch(err.Error()); m != nil {
			return fault.New(fault.Invalid, "no package %s in Debian %s", m[1], r.Suite)
		}
	}
	return err
}

// noPackage matches what apt says of a name that it does not know, or that no
// package provides.
var noPackage = regexp.MustCompile(`E: (?:Unable to locate package |Package ')([a-z0-9][a-z0-9+.-]*)`)

// systemFile is a file of the system that replaces the package's.
type systemFile struct {
	Path, Content string
	Mode          fs.FileMode
}

var systemFiles = []systemFile{
	{"etc/hostname", "bulkhead\n", 0o644},
	{"etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n", 0o644},
	// Times of reading would change the disk, and so cost space in every
	// snapshot. What is deleted goes back to the pool at once: a machine that
	// is asleep most of the time cannot leave that to a weekly timer.
	{"etc/fstab", "/dev/vda / ext4 noatime,discard,errors=remount-ro 0 0\n", 0o644},
	{"etc/resolv.conf", "nameserver " + addressing.Gateway().String() + "\n", 0o644},
	// Empty means: make one up at boot, and this is not a first boot that
	// asks questions (machine-id(5)).
	{"etc/machine-id", "", 0o444},
	{"etc/default/locale", "LANG=C.UTF-8\n", 0o644},
	{"etc/sudoers.d/user", "user ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440},
	// The journal is part of memory, and so of every snapshot. On disk it
	// would only be written a second time.
	{"etc/systemd/journald.conf.d/bulkhead.conf", "[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n", 0o644},
}

// removed are files of the installed tree that the machine is better without.
// What they are links to stays: systemctl enable brings a unit back.
var removed = []string{
	// Options for the installation alone.
	"etc/apt/apt.conf.d/99mmdebstrap",
	// What makes noise in a machine that is mostly asleep: each would find
	// itself overdue after every restore, in every sandbox at once.
	"etc/systemd/system/timers.target.wants/apt-daily.timer",
	"etc/systemd/system/timers.target.wants/apt-daily-upgrade.timer",
	"etc/systemd/system/timers.target.wants/dpkg-db-backup.timer",
	// The disk is mounted with discard.
	"etc/systemd/system/timers.target.wants/fstrim.timer",
	// These check LVM volumes.
	"etc/systemd/system/timers.target.wants/e2scrub_all.timer",
	"etc/systemd/system/multi-user.target.wants/e2scrub_reap.service",
}

// configure turns the installed tree into a machine's.
func configure(ctx context.Context, w workspace, k kernel, kernelTree string) error {
	dir := filepath.Join(w.dir, rootName)
	if err := writeSystem(dir); err != nil {
		return err
	}
	if err := w.runInside(ctx, dir, "/usr/sbin/useradd",
		"--create-home", "--user-group", "--uid", "1000", "--shell", "/bin/bash", "user"); err != nil {
		return err
	}
	if err := w.runInside(ctx, dir, "/usr/sbin/visudo", "--check"); err != nil {
		return err
	}
	// All modules, so that Docker, nftables and FUSE find theirs. Debian's
	// /lib is a link to usr/lib.
	if err := w.run(ctx, "cp", "-a", filepath.Join(kernelTree, "lib", "modules"), filepath.Join(dir, "usr", "lib")); err != nil {
		return err
	}
	return w.runInside(ctx, dir, "/usr/sbin/depmod", k.release())
}

// writeSystem writes the system's files. Links of the tree are not followed
// out of it.
func writeSystem(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open installed tree: %w", err)
	}
	defer root.Close()
	for _, f := range systemFiles {
		if err := replace(root, f); err != nil {
			return fmt.Errorf("write /%s: %w", f.Path, err)
		}
	}
	for _, p := range removed {
		if err := root.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove /%s: %w", p, err)
		}
	}
	// The console is a log. Nobody logs in there.
	const getty = "etc/systemd/system/getty.target"
	if err := errors.Join(root.MkdirAll(path.Dir(getty), 0o755), root.RemoveAll(getty), root.Symlink("/dev/null", getty)); err != nil {
		return fmt.Errorf("mask getty.target: %w", err)
	}
	return nil
}

func replace(root *os.Root, f systemFile) error {
	if err := root.MkdirAll(path.Dir(f.Path), 0o755); err != nil {
		return err
	}
	// A new file: what is there may be a link, or have other rights.
	if err := root.RemoveAll(f.Path); err != nil {
		return err
	}
	if err := root.WriteFile(f.Path, []byte(f.Content), f.Mode); err != nil {
		return err
	}
	return root.Chmod(f.Path, f.Mode) // whatever the umask is
}
