package machine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"bulkhead/proto/machine"

	"golang.org/x/sys/unix"
)

const (
	bootIDFile = "/proc/sys/kernel/random/boot_id"
	runDir     = "/run/bulkhead"
)

var (
	hostnameForm  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	machineIDForm = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// become makes this machine another one. Files that cannot be written in a
// damaged guest are reported, after everything else was tried.
func become(id *machine.Identity) error {
	if !hostnameForm.MatchString(id.GetHostname()) || !machineIDForm.MatchString(id.GetMachineId()) {
		return errors.New("malformed identity")
	}
	return errors.Join(
		unix.Sethostname([]byte(id.GetHostname())),
		replace("/etc/hostname", id.GetHostname()+"\n"),
		replace("/etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\t"+id.GetHostname()+"\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
		replace("/etc/machine-id", id.GetMachineId()+"\n"),
		newBootID(),
		newHostKeys(),
	)
}

// replace writes a file beside its place and renames it there.
func replace(path, content string) error {
	tmp := path + ".bulkhead"
	if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
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
	id := fmt.Sprintf("%x-%x-%x-%x-%x\n", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	if err := os.WriteFile(path, []byte(id), 0o444); err != nil {
		return err
	}
	unix.Unmount(bootIDFile, unix.MNT_DETACH) // of an earlier identity, if any
	return unix.Mount(path, bootIDFile, "", unix.MS_BIND, "")
}

// newHostKeys replaces the keys by which SSH clients know a machine, if this
// one has any.
func newHostKeys() error {
	old, err := filepath.Glob("/etc/ssh/ssh_host_*")
	if err != nil || len(old) == 0 {
		return err
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	if out, err := exec.Command("ssh-keygen", "-A").CombinedOutput(); err != nil {
		return fmt.Errorf("make SSH host keys: %w: %.200s", err, out)
	}
	return nil
}
