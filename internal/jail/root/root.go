// Package root makes the folder that a caged program has for a root: copies of
// exactly what it needs, and empty places for its files. Nothing in it can be
// written by the program.
//
// Copies, because the program's own must be readable for nobody: a process
// that cannot read its program is not dumpable, so nobody of its user can
// trace it (would_dump in the kernel's fs/exec.c). A root is made once per
// version of a program and kept.
//
// root must not know users, mounts or processes. A Store is safe for
// concurrent use.
package root

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Program is what a root holds, under the paths that it has on the host.
type Program struct {
	// Path is the program, which nobody inside can read.
	Path string
	// Modules are libraries that it loads by itself. The libraries that the
	// program and they are linked with are found, and need not be listed.
	Modules []string
	// Data are files that it reads.
	Data []string
	// Devices are device nodes that it opens.
	Devices []string
}

// Store keeps roots.
type Store struct {
	// Dir is the folder of all roots. It must be on a file system that allows
	// programs.
	Dir string

	mu sync.Mutex
}

// For returns the root for a program, and makes it if it is not there: places
// are the paths in it at which files will be mounted.
func (s *Store) For(ctx context.Context, p Program, places []string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, err := listContent(ctx, p, places)
	if err != nil {
		return "", err
	}
	root := filepath.Join(s.Dir, content.key())
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(s.Dir, "new-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir) // finds nothing once it is renamed
	if err := errors.Join(os.Chmod(dir, 0o755), content.fill(dir), syncAll(dir)); err != nil {
		return "", err
	}
	return root, os.Rename(dir, root)
}

// content is what a root holds: by path inside, what is there.
type content map[string]entry

type entry struct {
	// host is the file that is copied; "" for an empty place.
	host string
	mode fs.FileMode
	// stamp changes when the host's file does.
	stamp string
	// rdev is the number of a device, 0 for a file.
	rdev uint64
}

// The modes of what is in a root, which belongs to the host's root: a program
// can be run, a library read and mapped, neither changed.
const (
	programMode = 0o711
	libraryMode = 0o755
	dataMode    = 0o644
	deviceMode  = 0o666 // inside a root that only programs in a cage reach
)

func listContent(ctx context.Context, p Program, places []string) (content, error) {
	all := content{}
	for _, path := range append([]string{p.Path}, p.Modules...) {
		libraries, err := linked(ctx, path)
		if err != nil {
			return nil, err
		}
		for _, l := range append(libraries, path) {
			if err := all.add(l, libraryMode); err != nil {
				return nil, err
			}
		}
	}
	if err := all.add(p.Path, programMode); err != nil {
		return nil, err
	}
	for _, path := range p.Data {
		if err := all.add(path, dataMode); err != nil {
			return nil, err
		}
	}
	for _, path := range p.Devices {
		if err := all.addDevice(path); err != nil {
			return nil, err
		}
	}
	for _, path := range places {
		all[path] = entry{mode: dataMode}
	}
	return all, nil
}

func (c content) add(path string, mode fs.FileMode) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	c[path] = entry{host: path, mode: mode, stamp: fmt.Sprint(fi.Size(), fi.ModTime().UnixNano())}
	return nil
}

func (c content) addDevice(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return fmt.Errorf("%s is not a character device", path)
	}
	c[path] = entry{mode: deviceMode, rdev: st.Rdev}
	return nil
}

// key names the content.
func (c content) key() string {
	h := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(c)) {
		e := c[path]
		fmt.Fprintf(h, "%q %q %o %s %d\n", path, e.host, e.mode, e.stamp, e.rdev)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (c content) fill(dir string) error {
	for path, e := range c {
		to := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := e.make(to); err != nil {
			return err
		}
		if err := os.Chmod(to, e.mode); err != nil { // whatever the umask is
			return err
		}
	}
	return nil
}

func (e entry) make(to string) error {
	if e.rdev != 0 {
		return unix.Mknod(to, unix.S_IFCHR, int(e.rdev))
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if e.host == "" {
		return out.Close()
	}
	in, err := os.Open(e.host)
	if err != nil {
		return errors.Join(err, out.Close())
	}
	defer in.Close()
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// syncAll writes everything on dir's file system to stable storage: a root is
// trusted by its name, so none may come out of a power cut half empty.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// linked lists the libraries of a program or a library, and their loader, as
// the loader itself finds them (ld.so(8), --list). A program that is linked
// with none has none.
func linked(ctx context.Context, path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	needs, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("read libraries of %s: %w", path, err)
	}
	if len(needs) == 0 {
		return nil, nil
	}
	out, err := exec.CommandContext(ctx, loader, "--list", path).Output()
	if err != nil {
		return nil, fmt.Errorf("list libraries of %s: %w", path, err)
	}
	libraries := []string{loader}
	for line := range strings.Lines(string(out)) { // "\tlibc.so.6 => /lib/… (0x…)"
		_, right, ok := strings.Cut(line, " => ")
		if !ok {
			continue // the loader, and what is in the kernel
		}
		lib, _, _ := strings.Cut(strings.TrimSpace(right), " (")
		if !filepath.IsAbs(lib) {
			return nil, fmt.Errorf("list libraries of %s: %s", path, strings.TrimSpace(line))
		}
		libraries = append(libraries, lib)
	}
	return libraries, nil
}

// loader is what the psABI for x86-64 fixes as the loader's path.
const loader = "/lib64/ld-linux-x86-64.so.2"
