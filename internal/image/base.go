package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"bulkhead/internal/fault"
	"bulkhead/internal/image/layer"
)

// Base is a root tree that is not made of Debian's packages. What is in it is a
// stranger's: none of its programs runs on the host, and no link in it is
// followed out of it.
type Base struct {
	// Name is for people.
	Name string
	// Key is equal for bases of the same content.
	Key string
	// Path is where programs are looked for, "/go/bin:/usr/bin"; "" leaves it to the
	// shell.
	Path string
	// Lay fills the empty folder root, which belongs to root and is closed to
	// others. It may use the folder scratch, of which nothing must stay, and calls
	// log with lines for people.
	Lay func(ctx context.Context, root, scratch string, log func(line string)) error
}

// BuildOn is Build on a base. Of the recipe, only the size of the disk and the
// agent count: packages are a fault.Invalid. The machine has the base's own
// init if that is systemd, and the agent for one otherwise; it has a user
// "user", as machines of Debian's packages do.
func (b *Builder) BuildOn(ctx context.Context, base Base, recipe Recipe, progress Progress) (Image, error) {
	if len(recipe.Packages) > 0 || recipe.BuildTools {
		return Image{}, fault.New(fault.Invalid, "packages are for templates of Debian, not for those of %s", base.Name).
			Hint("install them in a sandbox, and take a snapshot of it as a template")
	}
	return b.build(ctx, recipe, progress, func(r Recipe, k kernel, tree string) part { return r.basePart(base, k, tree) })
}

// foreignRevision counts the changes of adopt that keys do not see otherwise.
const foreignRevision = 2

func (r Recipe) basePart(b Base, k kernel, kernelTree string) part {
	return part{
		kind: "disk",
		key:  digest("base", foreignRevision, b.Key, r.DiskMiB, k, systemFiles, removed),
		steps: []step{
			{"fetch " + b.Name, func(ctx context.Context, w workspace) error {
				root := filepath.Join(w.dir, rootName)
				if err := os.Mkdir(root, 0o755); err != nil {
					return err
				}
				return b.Lay(ctx, root, w.dir, w.log)
			}},
			{"configure the system", func(ctx context.Context, w workspace) error { return b.adopt(ctx, w, k, kernelTree) }},
			{"make the disk image", func(ctx context.Context, w workspace) error { return makeDisk(ctx, w, r.DiskMiB) }},
		},
	}
}

// adopt turns a stranger's tree into a machine's.
func (b Base) adopt(ctx context.Context, w workspace, k kernel, kernelTree string) error {
	dir := filepath.Join(w.dir, rootName)
	if err := b.prepareEtc(dir); err != nil {
		return fault.New(fault.Invalid, "image has no usable /etc: %w", err)
	}
	// With depmod of the host, and beside the tree: what is in that may be called
	// lib and lead anywhere.
	const staged = "modules"
	stage := filepath.Join(w.dir, staged, "lib")
	if err := os.MkdirAll(stage, 0o755); err != nil {
		return err
	}
	if err := w.run(ctx, "cp", "-a", filepath.Join(kernelTree, "lib", "modules"), stage); err != nil {
		return err
	}
	if err := w.run(ctx, "depmod", "-b", filepath.Join(w.dir, staged), k.release()); err != nil {
		return err
	}
	if err := moveInto(dir, w.dir, path.Join(staged, "lib/modules", k.release()), "lib/modules"); err != nil {
		return fault.New(fault.Invalid, "image has no usable /lib: %w", err)
	}
	return os.RemoveAll(filepath.Join(w.dir, staged))
}

// prepareEtc writes what makes a tree the system of a machine.
func (b Base) prepareEtc(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	// A folder of its own: what follows writes below it by these names.
	if fi, err := root.Lstat("etc"); err == nil && !fi.IsDir() {
		return errors.New("it is no folder")
	}
	if err := writeSystem(dir); err != nil {
		return err
	}
	if err := errors.Join(makeFolders(root), b.keepPath(root)); err != nil {
		return err
	}
	return addUser(root)
}

// keepPath has login shells keep a PATH, which /etc/profile of most sets anew.
func (b Base) keepPath(root *os.Root) error {
	if b.Path == "" {
		return nil
	}
	line := "export PATH='" + strings.ReplaceAll(b.Path, "'", `'\''`) + "'\n"
	return replace(root, systemFile{Path: "etc/profile.d/bulkhead-path.sh", Content: line, Mode: 0o644})
}

// moveInto moves a folder of work, which holds tree, into the folder of tree
// that a machine would find by the name into.
func moveInto(tree, work, from, into string) error {
	inside, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer inside.Close()
	to, err := layer.Resolve(inside, into)
	if err != nil {
		return err
	}
	to = path.Join(to, path.Base(from))
	if err := errors.Join(inside.MkdirAll(path.Dir(to), 0o755), inside.RemoveAll(to)); err != nil {
		return err
	}
	outside, err := os.OpenRoot(work)
	if err != nil {
		return err
	}
	defer outside.Close()
	// to has no link in it, so it stays in the tree.
	return outside.Rename(from, path.Join(filepath.Base(tree), to))
}

// folders that a machine needs and an image for containers may lack.
var folders = []struct {
	path string
	mode fs.FileMode
}{{"tmp", fs.ModeSticky | 0o777}, {"root", 0o700}, {"home", 0o755}}

// makeFolders makes those of folders that are not there.
func makeFolders(root *os.Root) error {
	for _, f := range folders {
		err := root.Mkdir(f.path, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err := errors.Join(err, root.Chmod(f.path, f.mode)); err != nil {
			return fmt.Errorf("make /%s: %w", f.path, err)
		}
	}
	return nil
}
