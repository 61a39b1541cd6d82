package layer

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
)

// enter opens the folder of that name and makes it if it is not there.
func (t *Tree) enter(name string) (place, error) {
	if t.at.dir != nil && !t.stale && t.at.name == name {
		return t.at, nil
	}
	t.leave()
	p, err := t.resolve(name)
	if err != nil {
		return place{}, err
	}
	if err := t.root.MkdirAll(p, 0o755); err != nil {
		return place{}, err
	}
	dir, err := t.root.OpenRoot(p)
	if err != nil {
		return place{}, err
	}
	t.at, t.stale = place{name: name, path: p, dir: dir}, false
	return t.at, nil
}

// leave closes the folder that is open.
func (t *Tree) leave() {
	if t.at.dir != nil {
		t.at.dir.Close() // a folder has nothing to write
	}
	t.at = place{}
}

func (t *Tree) resolve(name string) (string, error) { return Resolve(t.root, name) }

// Resolve returns the path below root that a machine would find by the name of
// a folder, without links in it: an absolute link starts at root, and ".."
// ends there. What does not exist is taken as it is named. A file in the way,
// a cycle and a path too long are each a fault.Invalid.
func Resolve(root *os.Root, name string) (string, error) {
	done, rest, hops := ".", name, 0
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		if len(next) > maxName || strings.Count(next, "/") > maxDepth {
			return "", invalid("its path is too long")
		}
		there, err := root.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			done = next
		case err != nil:
			return "", err
		case there.IsDir():
			done = next
		case there.Mode()&fs.ModeSymlink == 0:
			return "", invalid("%q is no folder", cut(next))
		default:
			if hops++; hops > maxHops {
				return "", invalid("%q leads over more than %d links", cut(name), maxHops)
			}
			target, err := root.Readlink(next)
			if err != nil {
				return "", err
			}
			if path.IsAbs(target) {
				done = "."
			}
			rest = target + "/" + rest
		}
	}
	return done, nil
}

// takeAway does what a whiteout says: it removes what lower layers have.
func (t *Tree) takeAway(dir, base string) error {
	dir, err := t.resolve(dir)
	if err != nil {
		return err
	}
	t.stale = true
	if base == opaque {
		return t.empty(dir)
	}
	if strings.HasPrefix(base, reserved) {
		return nil
	}
	name := strings.TrimPrefix(base, whiteout)
	if name == "" || name == "." || name == ".." {
		return invalid("it takes away nothing")
	}
	if full := path.Join(dir, name); !t.own[full] {
		return t.root.RemoveAll(full)
	}
	return nil
}

// empty removes from a folder what is of lower layers, at any depth.
func (t *Tree) empty(dir string) error {
	f, err := t.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	f.Close() // it was only read
	if err != nil {
		return err
	}
	for _, e := range entries {
		full := path.Join(dir, e.Name())
		if !e.IsDir() {
			if !t.own[full] {
				err = t.root.Remove(full)
			}
		} else if err = t.empty(full); err == nil && !t.own[full] {
			// A folder that the layer did not name stays if it put something in it.
			if err = t.root.Remove(full); errors.Is(err, fs.ErrExist) {
				err = nil
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
