package machine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"bulkhead/proto/machine"

	"golang.org/x/sys/unix"
)

const (
	bootIDFile = "/proc/sys/kernel/random/boot_id"
	runDir     = "/run/bulkhead"
	// envFile, placeholderFile and defaultsFile keep variables for an agent that
	// is started again.
	envFile         = runDir + "/env"
	defaultsFile    = runDir + "/defaults"
	placeholderFile = runDir + "/placeholders"
)

// What holds for clients that do not say, by name.
const (
	defaultUser    = "user"
	defaultWorkdir = "workdir"
)

func defaultsOf(id *machine.Identity) map[string]string {
	return map[string]string{defaultUser: id.GetUser(), defaultWorkdir: id.GetWorkdir()}
}

// A restored machine runs every line of this for the first time, and a
// translator pays for each: hence no regular expressions here.

func isHostname(s string) bool {
	for i, c := range []byte(s) {
		inner := c == '-' && i > 0 && i < len(s)-1
		if !inner && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 63
}

func isMachineID(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'f') && (c < '0' || c > '9') {
			return false
		}
	}
	return len(s) == 32
}

// become makes this machine another one. The host's name needs no line in
// /etc/hosts: images resolve their own (nss-myhostname). A damaged guest takes
// what it can, so that it can be looked at: damage is what is missing there.
func become(ctx context.Context, id *machine.Identity) (damage, err error) {
	if !isHostname(id.GetHostname()) || !isMachineID(id.GetMachineId()) {
		return nil, errors.New("malformed identity")
	}
	if err := unix.Sethostname([]byte(id.GetHostname())); err != nil {
		return nil, fmt.Errorf("set host name: %w", err)
	}
	return errors.Join(
		replace("/etc/hostname", []byte(id.GetHostname()+"\n"), 0o644),
		replace("/etc/machine-id", []byte(id.GetMachineId()+"\n"), 0o644),
		newBootID(),
		newHostKeys(ctx),
		keep(envFile, id.GetEnv()),
		keep(defaultsFile, defaultsOf(id)),
		show(id.GetEnv()),
	), nil
}

// replace writes a file beside its place and renames it there.
func replace(path string, content []byte, mode os.FileMode) error {
	tmp := path + ".bulkhead"
	if err := os.WriteFile(tmp, content, mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// keep keeps variables in the form of /proc/pid/environ. Only root may read
// them.
func keep(file string, env map[string]string) error {
	var b []byte
	for name, value := range env {
		b = append(b, name+"="+value+"\x00"...)
	}
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return err
	}
	return replace(file, b, 0o600)
}

// show writes what programs that were written for E2B look for in files.
func show(env map[string]string) error {
	const dir = "/run/e2b"
	err := os.MkdirAll(dir, 0o755)
	for _, name := range []string{"E2B_SANDBOX", "E2B_SANDBOX_ID", "E2B_TEMPLATE_ID"} {
		if value, ok := env[name]; ok && err == nil {
			err = replace(filepath.Join(dir, "."+name), []byte(value), 0o644)
		}
	}
	return err
}

// kept returns what an earlier agent of this machine has kept, if it has.
func kept(file string) map[string]string {
	env := map[string]string{}
	b, _ := os.ReadFile(file) // without it the agent must work too
	for entry := range strings.SplitSeq(string(b), "\x00") {
		if name, value, ok := strings.Cut(entry, "="); ok {
			env[name] = value
		}
	}
	return env
}

// newBootID lays a fresh boot id over the kernel's, which never changes while
// it runs: programs take it for the identity of this run of the machine.
func newBootID() error {
	var b [16]byte
	rand.Read(b[:])                             // never fails: crypto/rand ends the program instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562, version 4
	path := filepath.Join(runDir, "boot_id")
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return err
	}
	h := hex.EncodeToString(b[:])
	id := h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:] + "\n"
	if err := os.WriteFile(path, []byte(id), 0o444); err != nil {
		return err
	}
	unix.Unmount(bootIDFile, unix.MNT_DETACH) // of an earlier identity, if any
	return unix.Mount(path, bootIDFile, "", unix.MS_BIND, "")
}

// newHostKeys replaces the keys by which SSH clients know a machine, if this
// one has any.
func newHostKeys(ctx context.Context) error {
	const dir = "/etc/ssh"
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	had := false
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "ssh_host_") {
			had = true
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if !had {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "ssh-keygen", "-A").CombinedOutput(); err != nil {
		return fmt.Errorf("make SSH host keys: %w: %.200s", err, out)
	}
	return nil
}
