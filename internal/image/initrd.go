package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"bulkhead/internal/fault"

	"github.com/cavaliergopher/cpio"
)

const initrdName = "initrd.img"

// drivers are the kernel modules without which the guest sees no device, each
// after those that it needs. ext4 is built into Debian's kernel.
var drivers = []string{
	"virtio_ring", "virtio", "virtio_mmio", "virtio_blk", "failover",
	"net_failover", "virtio_net", "virtio_console", "virtio-rng", "virtio_balloon",
}

// mountPoints are the folders that /init mounts on. The kernel itself makes
// /dev/console before it starts /init (usr/default_cpio_list in its source).
var mountPoints = []string{"dev", "proc", "sys", "run", "newroot"}

// initrdPart is the part that holds the initramfs with the agent at path,
// whose content has the digest agent.
func initrdPart(k kernel, agent, path, kernelTree string) part {
	make := func(_ context.Context, w workspace) error {
		modules, err := findModules(filepath.Join(kernelTree, "lib", "modules", k.release()))
		if err != nil {
			return err
		}
		return writeInitrd(filepath.Join(w.dir, initrdName), path, modules)
	}
	return part{
		kind: "initrd", key: digest(k, agent, drivers, mountPoints),
		steps: []step{{"make the initramfs", make}},
	}
}

// findModules returns the paths of the drivers, in their order.
func findModules(dir string) ([]string, error) {
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			found[d.Name()] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find kernel modules: %w", err)
	}
	var paths []string
	for _, name := range drivers {
		path, ok := found[name+".ko"]
		if !ok {
			return nil, fault.New(fault.Unsupported, "kernel in %s has no uncompressed module %s", filepath.Base(dir), name)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// writeInitrd writes an initramfs: /init, /modules in order of loading, and
// places to mount on. It is not compressed: with an agent of 10 MB, a kernel
// under a software translator is at /init 0.1 s sooner (measured with gzip
// and zstd).
func writeInitrd(path, agent string, modules []string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buffered := bufio.NewWriter(f)
	a := archive{cpio.NewWriter(buffered)}
	for _, dir := range append([]string{"modules"}, mountPoints...) {
		if err := a.dir(dir); err != nil {
			return fmt.Errorf("add %s: %w", dir, err)
		}
	}
	if err := a.file("init", agent, 0o755); err != nil {
		return fmt.Errorf("add init: %w", err)
	}
	for i, module := range modules {
		name := fmt.Sprintf("modules/%02d-%s", i, filepath.Base(module))
		if err := a.file(name, module, 0o644); err != nil {
			return fmt.Errorf("add %s: %w", name, err)
		}
	}
	if err := a.w.Close(); err != nil {
		return err
	}
	return buffered.Flush()
}

// archive writes entries that belong to root and bear no date, so that equal
// content makes an equal archive.
type archive struct{ w *cpio.Writer }

func (a archive) dir(name string) error {
	return a.w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeDir | 0o755})
}

func (a archive) file(name, source string, mode cpio.FileMode) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := a.w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeReg | mode, Size: info.Size()}); err != nil {
		return err
	}
	n, err := io.Copy(a.w, f)
	if err == nil && n != info.Size() {
		err = errors.New("file changed while it was read")
	}
	return err
}
