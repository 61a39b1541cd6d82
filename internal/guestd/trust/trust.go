// Package trust has the guest's programs accept one more certificate authority:
// the sandbox's own, by which the proxy outside speaks for the hosts that
// secrets are for.
//
// It goes where Debian keeps authorities of the operator, into the bundle that
// curl, git, Python and Go read, and under the name by which OpenSSL looks for
// it. Env is for programs that bring a list of their own. Java's store is made
// from the first by a hook of Debian's package, which Refresh runs.
//
// All these files are the guest's: missing, huge or a FIFO, they may cost the
// authority but never the agent. trust knows no other service.
package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	own    = "/usr/local/share/ca-certificates/bulkhead.crt"
	folder = "/etc/ssl/certs"
	hooks  = "/etc/ca-certificates/update.d"
	// maxBundle bounds what is read; Debian's has 220 KiB.
	maxBundle = 8 << 20
	// refreshLimit bounds the hooks, generously: they run beside everything.
	refreshLimit = 5 * time.Minute
)

// bundles are lists of all authorities, as distributions name them: Debian and
// Alpine, Fedora, SUSE.
var bundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/ca-bundle.pem",
}

var linkName = regexp.MustCompile(`^[0-9a-f]{8}\.0$`)

// Store is the authorities of the machine whose file system is at Root, "/" but
// for tests. It is for one goroutine at a time.
type Store struct{ Root string }

func (s Store) path(p string) string { return filepath.Join(s.Root, p) }

// Install makes root, PEM, the one authority that is ours, to be found by
// OpenSSL under link; an empty root takes back the one that there is. It
// reports whether anything had to change, and installs what it can.
func (s Store) Install(root []byte, link string) (changed bool, err error) {
	if len(root) > 0 && !linkName.MatchString(link) {
		return false, fmt.Errorf("%.20q is no link of a certificate", link)
	}
	before, err := readRegular(s.path(own))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if len(root) == 0 && len(before) == 0 {
		return false, nil
	}
	changed = !bytes.Equal(before, root)
	var errs error
	for _, b := range bundles {
		edited, err := s.edit(b, before, root)
		changed, errs = changed || edited, errors.Join(errs, err)
	}
	if !changed {
		return false, errs
	}
	return true, errors.Join(errs, s.place(root), s.link(link, len(root) > 0))
}

// edit puts root in the place of before in a bundle, if there is one.
func (s Store) edit(bundle string, before, root []byte) (edited bool, err error) {
	all, err := readRegular(s.path(bundle))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if len(root) > 0 && bytes.Contains(all, root) && (len(before) == 0 || bytes.Equal(before, root)) {
		return false, nil
	}
	if len(before) > 0 {
		all = bytes.ReplaceAll(all, before, nil)
	}
	return true, replace(s.path(bundle), append(all, root...))
}

func (s Store) place(root []byte) error {
	if len(root) == 0 {
		return os.Remove(s.path(own))
	}
	if err := os.MkdirAll(filepath.Dir(s.path(own)), 0o755); err != nil {
		return err
	}
	return replace(s.path(own), root)
}

// link makes the one link to our certificate, or none.
func (s Store) link(name string, there bool) error {
	entries, err := os.ReadDir(s.path(folder))
	if err != nil {
		return nil // a machine without the folder has no use for links
	}
	var errs error
	for _, e := range entries {
		at := filepath.Join(s.path(folder), e.Name())
		if to, err := os.Readlink(at); err == nil && to == own {
			errs = errors.Join(errs, os.Remove(at))
		}
	}
	if there {
		errs = errors.Join(errs, os.Symlink(own, filepath.Join(s.path(folder), name)))
	}
	return errs
}

// Env returns the variables by which programs with a list of their own find
// the authority; none if there is none.
func (s Store) Env() map[string]string {
	if _, err := os.Lstat(s.path(own)); err != nil {
		return nil
	}
	env := map[string]string{"NODE_EXTRA_CA_CERTS": own, "DENO_CERT": own}
	for _, b := range bundles {
		if _, err := os.Lstat(s.path(b)); err == nil {
			for _, name := range []string{
				"SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "PIP_CERT", "AWS_CA_BUNDLE", "CARGO_HTTP_CAINFO",
			} {
				env[name] = b
			}
			break
		}
	}
	return env
}

// Refresh runs the hooks of packages that keep a store of their own, if there
// are any, in the given control group. started is called once, as soon as they
// run or will not.
func (s Store) Refresh(ctx context.Context, group *os.File, started func()) error {
	started = sync.OnceFunc(started)
	defer started()
	entries, err := os.ReadDir(s.path(hooks))
	if err != nil || len(entries) == 0 {
		return nil // there are none
	}
	ctx, cancel := context.WithTimeout(ctx, refreshLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "update-ca-certificates")
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	cmd.WaitDelay = time.Second
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Start()
	started()
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("update-ca-certificates: %w: %.200s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// readRegular reads a file and nothing that only looks like one.
func readRegular(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is no file", path), err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxBundle+1))
	if err == nil && len(b) > maxBundle {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxBundle)
	}
	return b, err
}

// replace writes a file that everybody may read beside its place and renames
// it there.
func replace(path string, content []byte) error {
	tmp := path + ".bulkhead"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	return err
}
